package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/server"
)

// Cancel ends a load for good and ends the runs that still work on it. Committed rows stay, and
// no run can resume the load. A load that is done stays done. Cancel is idempotent.
func (r *Registry) Cancel(ctx context.Context, load string) error {
	if err := r.end(ctx, load, func(context.Context, pgx.Tx) error { return nil }); err != nil {
		return fmt.Errorf("cancel load %s: %w", load, err)
	}
	return nil
}

// Forget removes a load from the registry; its rows stay. Runs that still work on it are ended
// first. The error is ErrDeferred if dropped indexes have not been recreated.
func (r *Registry) Forget(ctx context.Context, load string) error {
	err := r.end(ctx, load, func(ctx context.Context, tx pgx.Tx) error {
		var n int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM loader.indexes WHERE load = $1`, load).Scan(&n)
		if err == nil && n > 0 {
			err = permanentError{ErrDeferred}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("forget load %s: %w", load, err)
	}
	// The load's own row goes after the rows that refer to it: if Forget is interrupted, the
	// next Forget must still find the load.
	for _, q := range []string{
		`DELETE FROM loader.ledger WHERE load = $1`,
		`DELETE FROM loader.moved WHERE load = $1`,
		`DELETE FROM loader.rejects WHERE load = $1`,
		`DELETE FROM loader.doubts WHERE load = $1`,
		`DELETE FROM loader.ranges WHERE load = $1`,
		`DELETE FROM loader.sent WHERE load = $1`,
		forgetMarkers,
		`DELETE FROM loader.loads WHERE id = $1`,
		// Fenced runs must stay recorded as long as there is a load to work on.
		`DELETE FROM loader.runs WHERE load = $1`,
	} {
		err := r.exec(ctx, q, load)
		if q == forgetMarkers && server.Code(err) == pgerrcode.UndefinedTable {
			err = nil // made only for the loads that need it
		}
		if err != nil {
			return fmt.Errorf("forget load %s: %w", load, err)
		}
	}
	return nil
}

// end cancels a load unless it is done, and ends its runs with the steps of a takeover. It is
// no error if the load was ended before: the reply of an earlier attempt may have been lost, or
// an earlier command may have died before it ended the runs. may runs in the transaction, and
// its error ends the attempts.
func (r *Registry) end(ctx context.Context, load string, may func(context.Context, pgx.Tx) error) error {
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	var was State
	var users []string
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		if err := may(ctx, tx); err != nil {
			return err
		}
		if was = b.state; was == Done {
			return nil
		}
		users = nil
		for _, c := range b.leases {
			user, err := r.userOf(ctx, tx, load, c.run)
			if err != nil {
				return err
			}
			users = append(users, user)
			if err := fenceRun(ctx, tx, load, c.run, canceller); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE loader.runs SET fenced = true WHERE load = $1`, load); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET state = $2 WHERE id = $1`, load, string(Cancelled))
		return err
	})
	if err != nil || was == Done {
		return err // a done load has no run that writes rows
	}
	if err := r.fence(ctx, ended{load: load, users: users}); err != nil {
		return err
	}
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		done := b.done
		for _, c := range b.leases {
			done.AddAll(c.done)
		}
		// Leases are deleted before the ledger is read; see merging.drop.
		if _, err := tx.Exec(ctx, `DELETE FROM loader.claims WHERE load = $1`, load); err != nil {
			return err
		}
		if err := r.ledger(ctx, tx, load, chunker.Range{End: b.positions}, &done); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM loader.ledger WHERE load = $1`, load); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET done = $2 WHERE id = $1`, load, done.String())
		return err
	})
}

// canceller is the successor of the leases of a cancelled load.
const canceller = "cancel"
