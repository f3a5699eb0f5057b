package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CancelUnused cancels a load that has committed no row and has no run at work, if unused
// returns true. unused runs in the transaction, so its changes commit together with the
// cancellation or not at all. Nothing happens if another load of the same target is unfinished.
// ended reports whether the load was cancelled.
func (r *Registry) CancelUnused(ctx context.Context, load string, unused func(context.Context, pgx.Tx) (bool, error)) (ended bool, err error) {
	err = r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ended = false
		b, err := r.stateForUpdate(ctx, tx, load)
		if err != nil {
			return err
		}
		if b.state == Done || b.state == Cancelled || len(b.leases) > 0 || b.done.Len() > 0 || b.open.Len() > 0 {
			return nil
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM loader.loads WHERE id <> $1 AND state NOT IN ($2, $3)
			AND target = (SELECT target FROM loader.loads WHERE id = $1)`, load, string(Done), string(Cancelled)).Scan(&others); err != nil {
			return err
		}
		if others > 0 {
			return nil
		}
		ok, err := unused(ctx, tx)
		if err != nil || !ok {
			return err
		}
		ended = true
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET state = $2 WHERE id = $1`, load, string(Cancelled))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cancel load %s: %w", load, err)
	}
	return ended, nil
}
