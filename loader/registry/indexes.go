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
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := r.lockLive(ctx, tx, load); err != nil {
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

// Restore calls make for each index that a load has deferred, in order, and forgets
// those for which it returns nil. No other run restores at the same time: the rows stay
// locked, and a run that dies unlocks them. make may find the index there already, made
// by a run that died before it could say so. Restore stops at the first error and
// returns it.
func (r *Registry) Restore(ctx context.Context, load string, make func(Index) error) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// An index takes as long as it takes; this transaction waits for it.
		if _, err := tx.Exec(ctx, `SET idle_in_transaction_session_timeout = 0`); err != nil {
			return err
		}
		found, err := tx.Query(ctx, `SELECT name, ddl FROM loader.indexes WHERE load = $1 ORDER BY place FOR UPDATE`, load)
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(found, pgx.RowToStructByPos[Index])
		if err != nil {
			return err
		}
		for _, x := range list {
			if err := make(x); err != nil {
				return ours{err}
			}
		}
		if len(list) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `DELETE FROM loader.indexes WHERE load = $1`, load)
		return err
	})
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
	if err != nil {
		return nil, fmt.Errorf("read the deferred indexes of load %s: %w", load, err)
	}
	return list, nil
}
