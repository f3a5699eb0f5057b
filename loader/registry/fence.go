package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/server"
)

// StaleAfter is how long a run that has sessions may leave its claims without a
// sign of life before others end its sessions and take them over. A run that has no
// sessions is taken over at once.
const StaleAfter = 30 * time.Second

// dead returns the runs among those that hold claims which can no longer be at work:
// they have no session, or have shown no life for StaleAfter.
func (r *Registry) dead(ctx context.Context, load string, claims []claim) ([]string, error) {
	seen := map[string]bool{}
	var dead []string
	for _, c := range claims {
		if seen[c.run] {
			continue
		}
		seen[c.run] = true
		if c.idle < StaleAfter {
			n, err := r.sessions(ctx, load, c.run)
			if err != nil {
				return nil, err
			}
			if len(n) > 0 {
				continue
			}
		}
		dead = append(dead, c.run)
	}
	return dead, nil
}

// takeOver ends a run from outside: from the first statement on it can commit
// nothing more by the transaction way, since its claims are no longer its own; then
// its sessions are ended, so that nothing of it is still under way; then what it
// committed is read and recorded.
func (r *Registry) takeOver(ctx context.Context, load, run string) error {
	heir := NewID()
	if err := r.exec(ctx, `UPDATE loader.claims SET run = $3, beat = now() WHERE load = $1 AND run = $2`, load, run, heir); err != nil {
		return fmt.Errorf("take over from run %s: %w", run, err)
	}
	if err := r.Fence(ctx, load, run); err != nil {
		return err
	}
	var list []loader.Claim
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		b, err := r.read(ctx, tx, load)
		for _, c := range b.claims {
			if c.run == heir {
				list = append(list, loader.Claim{Range: c.Range, Done: c.done})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take over from run %s: %w", run, err)
	}
	if len(list) == 0 {
		return nil // a third run was faster
	}
	// What it had not recorded may have been sent.
	for _, c := range list {
		for _, gap := range c.Done.Gaps(c.Range) {
			if err := r.Queue(load, heir).Doubt(ctx, gap, false); err != nil {
				return err
			}
		}
	}
	return r.release(ctx, load, heir, list, nil)
}

// fenceTimeout bounds the wait for ended sessions to be gone.
const fenceTimeout = 30 * time.Second

// Fence ends every session of a run, or, where run is empty, of all runs of the load, and
// waits until the server lists none. What the table then holds of them is final: no
// statement of theirs can arrive later.
func (r *Registry) Fence(ctx context.Context, load, run string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	wait := 5 * time.Millisecond
	for {
		list, err := r.sessions(ctx, load, run)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, s := range list {
			end := `SELECT pg_terminate_backend($1::INT)`
			if r.info.Product == server.CockroachDB {
				end = `CANCEL SESSION IF EXISTS $1`
			}
			if err := r.exec(ctx, end, s); err != nil {
				return fmt.Errorf("end the sessions of %s: %w", SessionName(load, run), err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the sessions of %s: %d are still there: %w", SessionName(load, run), len(list), ctx.Err())
		case <-time.After(wait):
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// sessions returns the sessions of a run, or, where run is empty, of all runs of the load:
// process ids on PostgreSQL, session ids on CockroachDB.
func (r *Registry) sessions(ctx context.Context, load, run string) ([]string, error) {
	q := `SELECT pid::TEXT FROM pg_catalog.pg_stat_activity WHERE left(application_name, length($1::TEXT)) = $1::TEXT AND pid <> pg_backend_pid()`
	if r.info.Product == server.CockroachDB {
		q = `SELECT session_id FROM [SHOW CLUSTER SESSIONS] WHERE left(application_name, length($1::TEXT)) = $1::TEXT`
	}
	var list []string
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, q, SessionName(load, run))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the sessions of %s: %w", SessionName(load, run), err)
	}
	return list, nil
}
