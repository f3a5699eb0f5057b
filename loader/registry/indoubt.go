package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
)

// unsettled is the condition that load $1 has positions which a lookup decided and which are
// not settled yet.
const unsettled = `EXISTS (SELECT 1 FROM loader.doubts WHERE load = $1 AND looked)`

// RecordInDoubt records that the outcome of a range is unknown, or was decided by a lookup; see
// loader.InDoubtQueue. A looked range keeps the load from being done until Settle.
func (q *Queue) RecordInDoubt(ctx context.Context, r chunker.Range, looked bool) error {
	err := q.reg.exec(ctx, `INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ($1, $2, $3, $4)
		ON CONFLICT (load, lo, hi) DO UPDATE SET looked = loader.doubts.looked OR excluded.looked`, q.load, r.First, r.End, looked)
	if err != nil {
		return fmt.Errorf("record that positions %d to %d are in doubt: %w", r.First, r.End-1, err)
	}
	return nil
}

// queryDoubts reads the doubtful positions of a load: all, or only those that a lookup decided.
const queryDoubts = `SELECT lo, hi FROM loader.doubts WHERE load = $1 AND (looked OR NOT $2::BOOL)`

// LookedUp returns the positions of a load that a lookup decided and that must be settled.
func (r *Registry) LookedUp(ctx context.Context, load string) (chunker.Ranges, error) {
	var in chunker.Ranges
	if r.older.Load() {
		return in, nil
	}
	err := r.persist(ctx, func(ctx context.Context) error {
		in = chunker.Ranges{}
		found, err := r.db.Query(ctx, queryDoubts, load, true)
		if err != nil {
			return err
		}
		return addRanges(&in)(found)
	})
	if err != nil {
		return in, fmt.Errorf("read the uncertain outcomes of load %s: %w", load, err)
	}
	return in, nil
}

// Settle confirms the positions that a lookup decided, and deletes the doubts of the load. The
// load becomes done if everything is committed and no lease is left.
func (r *Registry) Settle(ctx context.Context, load string) error {
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.liveStateForUpdate(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM loader.doubts WHERE load = $1`, load); err != nil {
			return err
		}
		if len(b.leases) > 0 || !b.done.Covers(chunker.Range{End: b.positions}) {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET state = $2, finished_at = COALESCE(finished_at, now()) WHERE id = $1`, load, string(Done))
		return err
	})
	if err != nil {
		return fmt.Errorf("settle load %s: %w", load, err)
	}
	return nil
}
