package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/server"
)

// Unfinished returns the loads into a table that are neither done nor cancelled, and that have
// committed rows or may have some, the newest first.
func (r *Registry) Unfinished(ctx context.Context, target string) (list []Load, err error) {
	if list, known := r.ahead.unfinished(target); known {
		return list, nil
	}
	err = r.persist(ctx, func(ctx context.Context) error {
		list, err = unfinishedLoads(ctx, r.pool, r.loadColumns(), "target = $1", target)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for unfinished loads: %w", err)
	}
	return list, nil
}

func unfinishedLoads(ctx context.Context, db server.Querier, columns, where, table string) ([]Load, error) {
	found, err := db.Query(ctx, `SELECT `+columns+` FROM loader.loads WHERE `+where+` AND state = 'loading'
		AND (done <> '' OR EXISTS (SELECT 1 FROM loader.claims WHERE load = id)) ORDER BY created_at DESC, id`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (Load, error) { return scanLoad(row) })
}

// Finished returns the loads of a kind into a table that are done, the newest first.
func (r *Registry) Finished(ctx context.Context, kind, target string) (list []Load, err error) {
	err = r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, `SELECT `+r.loadColumns()+` FROM loader.loads WHERE target = $1 AND what = $2 AND state = 'done' ORDER BY created_at DESC, id`, target, kind)
		if err == nil {
			list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Load, error) { return scanLoad(row) })
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for finished loads: %w", err)
	}
	return list, nil
}

// ListIn returns all loads like List, and the committed positions of each load by id like In.
// The number of statements does not depend on the number of loads.
func (r *Registry) ListIn(ctx context.Context) ([]Load, map[string]*chunker.Ranges, error) {
	in := map[string]*chunker.Ranges{}
	of := func(load string) *chunker.Ranges {
		if in[load] == nil {
			in[load] = new(chunker.Ranges)
		}
		return in[load]
	}
	// A run that releases a lease meanwhile moves positions from the ledger and the lease to
	// the load. So the loads are read last.
	err := r.persist(ctx, func(ctx context.Context) error {
		clear(in)
		found, err := r.pool.Query(ctx, `SELECT load, lo, hi FROM loader.ledger`)
		if err != nil {
			return err
		}
		var load string
		var x chunker.Range
		_, err = pgx.ForEachRow(found, []any{&load, &x.First, &x.End}, func() error { of(load).Add(x); return nil })
		if err != nil {
			return err
		}
		if found, err = r.pool.Query(ctx, `SELECT load, done FROM loader.claims`); err != nil {
			return err
		}
		var done string
		_, err = pgx.ForEachRow(found, []any{&load, &done}, func() error {
			list, err := chunker.ParseRanges(done)
			of(load).AddAll(list)
			return err
		})
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the progress of the loads: %w", err)
	}
	list, err := r.List(ctx)
	for _, l := range list {
		of(l.ID).AddAll(l.Done)
	}
	return list, in, err
}
