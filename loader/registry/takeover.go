package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/server"
)

// A takeover has three steps, each of which may be the last that its run lives to make:
//
//  1. mark, in one transaction: the claims get a successor, and the run is fenced. From
//     then on the run writes no ledger row, no checkpoint and no release, and no new
//     session of it is admitted (see Admit).
//  2. fence: the run's sessions are ended, by its own name, which stands in the claims
//     until step 3. What was under way has committed by then, or never will.
//  3. inherit, in one transaction: what the run committed is recorded, and the claims are
//     deleted.
//
// Whoever finds a claim with a successor begins again with step 1: nothing but the server's
// list of sessions tells that step 2 was done. Cancel takes the same steps for all runs.

// takeOver takes the claims of a run that shows no life from it, for run by.
func (r *Registry) takeOver(ctx context.Context, load, run, by string, ledger bool) error {
	var legacy bool
	var user string
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err := r.stateForUpdate(ctx, tx, load); err != nil {
			return err
		}
		if user, err = r.userOf(ctx, tx, load, run); err != nil {
			return err
		}
		legacy = user == ""
		return fenceRun(ctx, tx, load, run, by)
	})
	if err == nil {
		err = r.fence(ctx, ended{load: load, run: run, by: by, legacy: legacy, users: []string{user}})
	}
	if err == nil {
		err = r.inherit(ctx, load, run, ledger)
	}
	if err != nil {
		return fmt.Errorf("take over from run %s: %w", run, err)
	}
	return nil
}

// userOf returns the name of the user whose sessions a run has; empty for a run that an
// earlier version of the loader began, which did not record it.
func (r *Registry) userOf(ctx context.Context, tx pgx.Tx, load, run string) (string, error) {
	var user string
	err := tx.QueryRow(ctx, `SELECT COALESCE(max(username), '') FROM loader.runs WHERE load = $1 AND run = $2`, load, run).Scan(&user)
	return user, err
}

// fenceRun has a run work no more. The caller has locked the load.
func fenceRun(ctx context.Context, tx pgx.Tx, load, run, by string) error {
	_, err := tx.Exec(ctx, `UPDATE loader.claims SET successor = $3 WHERE load = $1 AND run = $2`, load, run, by)
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO loader.runs (load, run, fenced) VALUES ($1, $2, true) ON CONFLICT (load, run) DO UPDATE SET fenced = true`, load, run)
	}
	return err
}

// inherit records what a run whose sessions have ended has committed, and deletes its claims.
// Without a ledger nobody knows of the rest whether it is in: that stays open.
func (r *Registry) inherit(ctx context.Context, load, run string, ledger bool) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, load)
		if err != nil {
			return err
		}
		if b.state == Cancelled {
			return nil // its claims are the canceller's
		}
		s := merging{loadState: &b, load: load}
		for _, c := range b.leases {
			if c.run != run || c.successor == "" {
				continue // a third run was faster
			}
			if err := s.drop(ctx, tx, c.Range); err != nil {
				return err
			}
			in := c.done
			if err := r.ledger(ctx, tx, load, c.Range, &in); err != nil {
				return err
			}
			if err := s.add(ctx, tx, c.Range, in, true); err != nil {
				return err
			}
			if !ledger {
				s.open.Add(c.Range)
			}
		}
		return s.write(ctx, tx)
	})
}

// AskAdmission returns the query that a new session of a run sends to learn whether the run
// may still work. Claims are marked before the sessions of their run are listed: a session
// is in the list, or was made later, and finds the mark.
func (r *Registry) AskAdmission(load, run string) string {
	if r.older.Load() {
		return ""
	}
	return fmt.Sprintf(`SELECT CASE WHEN EXISTS (SELECT 1 FROM loader.loads WHERE id = %[1]s AND state <> 'cancelled')
		AND NOT EXISTS (SELECT 1 FROM loader.runs WHERE load = %[1]s AND run = %[2]s AND fenced) THEN 'yes' ELSE 'no' END`, server.QuoteLiteral(load), server.QuoteLiteral(run))
}

// Admitted judges the answer to AskAdmission: loader.ErrLost says that the run may not work.
func Admitted(load, run string, rows [][][]byte) error {
	if len(rows) == 1 && len(rows[0]) == 1 && string(rows[0][0]) == "yes" {
		return nil
	}
	return fmt.Errorf("run %s of load %s: %w", run, load, loader.ErrLost)
}

// seesAll reports whether the user sees the sessions of all users. Where the server does not
// say so, the answer is no.
func (r *Registry) seesAll(ctx context.Context) (bool, error) {
	if r.info.Product == server.PostgreSQL {
		return true, nil
	}
	for _, q := range []string{
		`SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user`,
		`SELECT crdb_internal.has_role_option('VIEWACTIVITY')`,
		`SELECT has_system_privilege('VIEWACTIVITY')`,
		`SELECT has_system_privilege('VIEWACTIVITYREDACTED')`,
		// 26.1 tells a role's option to nobody. Who sees one session of others sees all.
		`SELECT count(*) > 0 FROM [SHOW CLUSTER SESSIONS] WHERE user_name <> current_user`,
	} {
		var yes bool
		err := r.persist(ctx, func(ctx context.Context) error {
			err := r.pool.QueryRow(ctx, q, pgx.QueryExecModeExec).Scan(&yes)
			if server.Code(err) != "" && server.Classify(err) != server.Retry && server.Classify(err) != server.Uncertain {
				return nil // a version that does not know the question
			}
			return err
		})
		if err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}

// hidden returns a user whose sessions do not show in the server's list, among those of
// runs; the empty one is not known.
func (r *Registry) hidden(ctx context.Context, users []string) (user string, yes bool, err error) {
	if r.info.Product == server.PostgreSQL || len(users) == 0 {
		return "", false, nil
	}
	var me string
	err = r.persist(ctx, func(ctx context.Context) error { return r.pool.QueryRow(ctx, `SELECT session_user`).Scan(&me) })
	if err != nil {
		return "", false, err
	}
	for _, user := range users {
		if user == me {
			continue
		}
		all, err := r.seesAll(ctx)
		return user, !all, err
	}
	return "", false, nil
}
