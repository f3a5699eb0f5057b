package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// A Tuning holds the best known settings for loading a table. The next load of the same kind of
// rows starts with them.
type Tuning struct {
	Target     string // the table, as in Load.Target
	Kind       string // points, accounts, csv
	Chunk      int64  // rows per chunk
	Workers    int    // zero is automatic
	Method     string // insert, copy; empty is automatic
	CommitMode string // statement, transaction; empty is automatic
	// Origin is ByBench or ByRun. A run does not replace the result of a benchmark.
	Origin string
}

// The origins of a tuning.
const (
	ByBench = "bench"
	ByRun   = "auto" // the load's own tuning
)

// SaveTuning saves a tuning for its table and kind of rows.
func (r *Registry) SaveTuning(ctx context.Context, t Tuning) error {
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return server.AtCommit(ctx, tx, nil, `INSERT INTO loader.tuning (target, what, chunk, workers, via, way, origin) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (target, what) DO UPDATE SET chunk = excluded.chunk, workers = excluded.workers, via = excluded.via, way = excluded.way,
			origin = excluded.origin, updated_at = now() WHERE tuning.origin <> 'bench' OR excluded.origin = 'bench'`,
			t.Target, t.Kind, t.Chunk, t.Workers, t.Method, t.CommitMode, t.Origin)
	})
	if err != nil {
		return fmt.Errorf("store the tuning of %s: %w", t.Target, err)
	}
	return nil
}

// Tuning returns the saved tuning for a table and a kind of rows. ok is false if there is none.
func (r *Registry) Tuning(ctx context.Context, target, what string) (t Tuning, ok bool, err error) {
	if t, ok, known := r.ahead.tuning(target, what); known {
		return t, ok, nil
	}
	found, err := r.pool.Query(ctx, `SELECT target, what, chunk, workers, via, way, origin FROM loader.tuning WHERE target = $1 AND what = $2`, target, what)
	if err == nil {
		t, err = pgx.CollectOneRow(found, scanTuning)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows), r.absent(err):
		return t, false, nil
	case err != nil:
		return t, false, fmt.Errorf("read the tuning of %s: %w", target, err)
	}
	return t, true, nil
}

func scanTuning(row pgx.CollectableRow) (t Tuning, err error) {
	err = row.Scan(&t.Target, &t.Kind, &t.Chunk, &t.Workers, &t.Method, &t.CommitMode, &t.Origin)
	return t, err
}
