package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// An Index is a secondary index that a load has dropped, or is about to, and that must
// be there again when the load ends in whatever way.
type Index struct {
	Name   string
	Create string // the statement that makes it
}

// Defer records the indexes of a load, in the order in which they are to be made again.
// It is called before the first of them is dropped. loader.ErrLost: the load was ended.
func (r *Registry) Defer(ctx context.Context, load string, list []Index) error {
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := r.liveStateForUpdate(ctx, tx, load); err != nil {
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

// Restore calls make for each index that a load has deferred, in order, as long as it
// takes, and again where it fails for a reason that may pass. When all are there it
// forgets them. It stops at the first error that stays, and returns it. make may find
// the index there already, made by a run that died before it could say so, or by another
// that restores at the same time.
//
// Note: tried to lock the rows while the indexes are made. That takes a transaction that
// idles for as long, and has the other run wait for it, or give up; the server itself
// lets one of them make an index.
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

// Deferred returns the indexes that a load has dropped and not made again.
func (r *Registry) Deferred(ctx context.Context, load string) ([]Index, error) {
	var list []Index
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, `SELECT name, ddl FROM loader.indexes WHERE load = $1 ORDER BY place`, load)
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
