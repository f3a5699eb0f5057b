package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// An Index is a secondary index that a load has dropped, or is about to drop. It must exist
// again when the load ends, in whatever way.
type Index struct {
	Name   string
	Create string // the CREATE INDEX statement
}

// Defer records the indexes of a load, in the order of their later recreation. It is called
// before the first of them is dropped. The error is loader.ErrLost if the load was cancelled or
// removed.
func (r *Registry) Defer(ctx context.Context, load string, list []Index) error {
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := r.liveStateForUpdate(ctx, tx, load, nil); err != nil {
			return err
		}
		for i, x := range list {
			_, err := tx.Exec(ctx, `INSERT INTO loader.indexes (load, name, place, ddl) VALUES ($1, $2, $3, $4) ON CONFLICT (load, name) DO NOTHING`,
				load, x.Name, i, x.Create)
			if err != nil {
				return fmt.Errorf("record index %s: %w", x.Name, err)
			}
		}
		return nil
	})
}

// Restore calls make for each deferred index of a load, in order. Calls have no time limit, and
// calls that fail for a temporary reason are retried. Restore stops at the first permanent
// error and returns it. When all indexes exist, Restore deletes their records. make may find
// that the index already exists: created by a run that died before it could record that, or by
// a concurrent Restore.
//
// Note: tried to lock the rows while the indexes are created. The lock needs a transaction that
// idles all the time, and the other run must wait for it or give up. The server itself lets
// only one of them create an index.
func (r *Registry) Restore(ctx context.Context, load string, make func(Index) error) error {
	list, err := r.Deferred(ctx, load)
	if err != nil || len(list) == 0 {
		return err
	}
	for _, x := range list {
		if err := r.retryFor(ctx, func() error { return make(x) }); err != nil {
			return err
		}
	}
	return r.exec(ctx, `DELETE FROM loader.indexes WHERE load = $1`, load)
}

// Deferred returns the indexes that a load has dropped and not recreated.
func (r *Registry) Deferred(ctx context.Context, load string) ([]Index, error) {
	var list []Index
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.db.Query(ctx, `SELECT name, ddl FROM loader.indexes WHERE load = $1 ORDER BY place`, load)
		if err == nil {
			list, err = pgx.CollectRows(found, pgx.RowToStructByPos[Index])
		}
		return err
	})
	if err != nil && !r.absent(err) {
		return nil, fmt.Errorf("read the deferred indexes of load %s: %w", load, err)
	}
	return list, nil
}
