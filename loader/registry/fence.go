package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// StaleAfter is the default of Registry.StaleAfter.
const StaleAfter = 30 * time.Second

// fenceTimeout is the default of Registry.FenceTimeout.
const fenceTimeout = 30 * time.Second

// A FenceError says that sessions of a run could not be ended, or that the server may hide its
// sessions. The run's leases are not taken over. The load can be resumed when the sessions have
// ended.
type FenceError struct {
	Load     string
	Sessions int    // sessions still open; zero if the server hides them
	User     string // owner of the sessions; empty if unknown
	Err      error  // the server's reason; may be nil
	product  server.Product
}

// ErrorKind implements failure.Kinded. The kind is GaveUp, because the load can be resumed.
func (e *FenceError) ErrorKind() failure.Kind { return failure.GaveUp }

func (e *FenceError) Error() string {
	user := "another user"
	if e.User != "" {
		user = "user " + e.User
	}
	if e.Sessions == 0 {
		return fmt.Sprintf("a run of %[2]s holds leases of load %[1]s, and its sessions are hidden from this user; connect as that user, or as one with VIEWACTIVITY and CANCELQUERY", e.Load, user)
	}
	right := "pg_signal_backend"
	if e.product == server.CockroachDB {
		right = "CANCELQUERY"
	}
	s := fmt.Sprintf("%d sessions of %s still work on load %s; try again when they have ended, or connect as that user or as one with %s", e.Sessions, user, e.Load, right)
	if e.Err != nil {
		s += ": " + server.Reason(e.Err)
	}
	return s
}

func (e *FenceError) Unwrap() []error {
	if e.Err == nil {
		return []error{loader.ErrGaveUp}
	}
	return []error{loader.ErrGaveUp, e.Err}
}

// dead returns the runs that can no longer be at work, among the runs of the given leases. Such
// a run has no session, or sent no heartbeat for StaleAfter, or was marked by a takeover that
// did not finish.
func (r *Registry) dead(ctx context.Context, load string, claims []lease) ([]string, error) {
	seen := map[string]bool{}
	var dead []string
	for _, c := range claims {
		if seen[c.run] {
			continue
		}
		seen[c.run] = true
		if c.idle < r.StaleAfter && c.successor == "" {
			alive := isPooled(c.run) // the pooler's sessions do not tell
			if !alive {
				var err error
				if alive, err = r.alive(ctx, load, c.run); err != nil {
					return nil, err
				}
			}
			if alive {
				continue
			}
		}
		dead = append(dead, c.run)
	}
	return dead, nil
}

// alive reports whether a run may have sessions.
func (r *Registry) alive(ctx context.Context, load, run string) (bool, error) {
	list, err := r.sessions(ctx, SessionName(load, run))
	if err != nil || len(list) > 0 {
		return true, err
	}
	var user string
	err = r.persist(ctx, func(ctx context.Context) error {
		return r.pool.QueryRow(ctx, `SELECT COALESCE(max(username), '') FROM loader.runs WHERE load = $1 AND run = $2`, load, run).Scan(&user)
	})
	if err != nil {
		return true, fmt.Errorf("look for run %s: %w", run, err)
	}
	_, hidden, err := r.hidden(ctx, []string{user})
	return hidden, err
}

// ended selects the sessions to end.
type ended struct {
	load   string
	run    string   // empty means all runs of the load
	by     string   // the run that ends them; its own sessions stay
	legacy bool     // run may stand for unrecorded runs: end their sessions too
	users  []string // owners of the sessions
}

// Fence ends every session of a run, and waits until the server lists none. An empty run means
// all runs of the load. Afterwards the rows of these runs in the table are final: no statement
// of theirs can arrive later. A *FenceError says that some sessions have not ended.
func (r *Registry) Fence(ctx context.Context, load, run string) error {
	return r.fence(ctx, ended{load: load, run: run})
}

func (r *Registry) fence(ctx context.Context, e ended) error {
	if isPooled(e.run) {
		return nil // its sessions may serve others; see NewRun
	}
	if user, yes, err := r.hidden(ctx, e.users); err != nil || yes {
		if err == nil {
			err = &FenceError{Load: e.load, User: user, product: r.info.Product}
		}
		return err
	}
	// Sessions end soon, so the polls start closer together than the retries after a server
	// failure.
	waits := server.RetryPolicy{First: 5 * time.Millisecond, Last: 500 * time.Millisecond, For: r.FenceTimeout, Since: time.Now()}.Waits()
	for {
		list, err := r.toEnd(ctx, e)
		if err != nil || len(list) == 0 {
			return err
		}
		var refusal error
		for _, s := range list {
			sql := `SELECT pg_terminate_backend($1::INT)`
			if r.info.Product == server.CockroachDB {
				sql = `CANCEL SESSION IF EXISTS $1`
			}
			err := r.exec(ctx, sql, s.id)
			if err != nil && ctx.Err() == nil && server.Code(err) != "" {
				// The sessions may end by themselves.
				refusal = err
			} else if err != nil {
				return fmt.Errorf("end the sessions of load %s: %w", e.load, err)
			}
		}
		if err := waits.Wait(ctx, refusal); errors.Is(err, loader.ErrGaveUp) {
			return &FenceError{Load: e.load, Sessions: len(list), User: list[0].user, Err: refusal, product: r.info.Product}
		} else if err != nil {
			return err
		}
	}
}

// A session is one entry of the server's list.
type session struct{ id, name, user string }

// toEnd returns the remaining sessions to end.
func (r *Registry) toEnd(ctx context.Context, e ended) ([]session, error) {
	if e.run != "" && !e.legacy {
		return r.sessions(ctx, SessionName(e.load, e.run))
	}
	list, err := r.sessions(ctx, SessionName(e.load, ""))
	if err != nil || !e.legacy {
		return list, err
	}
	// A run of an earlier version may have taken leases under its own name from another run
	// whose sessions had not ended. Recorded runs are not of that version, so their sessions
	// stay.
	var known []string
	err = r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, `SELECT run FROM loader.runs WHERE load = $1 AND username <> ''`, e.load)
		if err == nil {
			known, err = pgx.CollectRows(found, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the runs of load %s: %w", e.load, err)
	}
	known = append(known, e.by)
	return slices.DeleteFunc(list, func(s session) bool {
		return slices.Contains(known, strings.TrimPrefix(s.name, SessionName(e.load, "")))
	}), nil
}

// sessions returns the sessions whose name begins with name, except this connection's on
// PostgreSQL.
func (r *Registry) sessions(ctx context.Context, name string) ([]session, error) {
	q := `SELECT pid::TEXT, application_name, COALESCE(usename::TEXT, '') FROM pg_catalog.pg_stat_activity
		WHERE left(application_name, length($1::TEXT)) = $1::TEXT AND pid <> pg_backend_pid()`
	if r.info.Product == server.CockroachDB {
		q = `SELECT session_id, application_name, user_name FROM [SHOW CLUSTER SESSIONS] WHERE left(application_name, length($1::TEXT)) = $1::TEXT`
	}
	var list []session
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, q, name)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (s session, err error) {
			err = row.Scan(&s.id, &s.name, &s.user)
			return s, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the sessions of %s: %w", strings.TrimSpace(name), err)
	}
	return list, nil
}
