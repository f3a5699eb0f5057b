package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
)

// A takeover has three steps. Its run may die after any of them:
//
//  1. mark, in one transaction: the leases get a successor, and their run is fenced. From
//     then on the run writes no ledger row, no checkpoint and no release, and none of its
//     new sessions is admitted (see Admitted).
//  2. fence: the run's sessions are ended. They carry the run's own name, which stays in
//     the leases until step 3. Afterwards each of its transactions has committed or never
//     will.
//  3. inherit, in one transaction: the run's commits are recorded, and its leases are
//     deleted.
//
// A run that finds a lease with a successor starts again at step 1: only the server's list of
// sessions shows whether step 2 was done. Cancel takes the same steps for all runs.

// takeOver takes the leases of a dead run, for run by.
func (r *Registry) takeOver(ctx context.Context, load, run, by string, ledger bool) error {
	var legacy bool
	var user string
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if _, err := r.stateForUpdate(ctx, tx, load, nil); err != nil {
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

// userOf returns the user who owns a run's sessions. It is empty for a run of an earlier loader
// version, which did not record the user.
func (r *Registry) userOf(ctx context.Context, tx pgx.Tx, load, run string) (string, error) {
	var user string
	err := tx.QueryRow(ctx, `SELECT COALESCE(max(username), '') FROM loader.runs WHERE load = $1 AND run = $2`, load, run).Scan(&user)
	return user, err
}

// fenceRun marks a run as fenced: the run may not work any more. The caller has locked the
// load.
func fenceRun(ctx context.Context, tx pgx.Tx, load, run, by string) error {
	_, err := tx.Exec(ctx, `UPDATE loader.claims SET successor = $3 WHERE load = $1 AND run = $2`, load, run, by)
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO loader.runs (load, run, fenced) VALUES ($1, $2, true) ON CONFLICT (load, run) DO UPDATE SET fenced = true`, load, run)
	}
	return err
}

// inherit records the commits of a run whose sessions have ended, and deletes its leases.
// Without a ledger, nothing shows whether the rest was committed: it stays open.
func (r *Registry) inherit(ctx context.Context, load, run string, ledger bool) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		if b.state == Cancelled {
			return nil // its leases belong to Cancel
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
				open, err := r.mayBeSent(ctx, tx, load, c)
				if err != nil {
					return err
				}
				s.open.AddAll(open)
			}
		}
		return s.write(ctx, tx)
	})
}

// mayBeSent returns the positions of a lease that its run may have sent: what it announced, or
// all of the lease if it announced nothing. It must come behind merging.drop.
func (r *Registry) mayBeSent(ctx context.Context, tx pgx.Tx, load string, c lease) (chunker.Ranges, error) {
	var sent chunker.Ranges
	if !c.announced {
		sent.Add(c.Range)
		return sent, nil
	}
	found, err := tx.Query(ctx, `SELECT lo, hi FROM loader.sent WHERE load = $1 AND lo < $3 AND hi > $2`, load, c.First, c.End)
	if err == nil {
		err = addRanges(&sent)(found)
	}
	return within(sent, c.Range), err
}

// AskAdmission returns the query by which a new session of a run learns whether the run may
// still work. It returns an empty query if the registry may lack the tables. A takeover marks
// leases before it lists sessions. So each session of the run either is in the list, or was
// made later and sees the mark.
func (r *Registry) AskAdmission(load, run string) string {
	if r.older.Load() {
		return ""
	}
	return fmt.Sprintf(`SELECT CASE WHEN EXISTS (SELECT 1 FROM loader.loads WHERE id = %[1]s AND state <> 'cancelled')
		AND NOT EXISTS (SELECT 1 FROM loader.runs WHERE load = %[1]s AND run = %[2]s AND fenced) THEN 'yes' ELSE 'no' END`, server.QuoteLiteral(load), server.QuoteLiteral(run))
}

// Admitted judges the answer to AskAdmission. The error is loader.ErrLost if the run may not
// work.
func Admitted(load, run string, rows [][][]byte) error {
	if len(rows) == 1 && len(rows[0]) == 1 && string(rows[0][0]) == "yes" {
		return nil
	}
	return fmt.Errorf("run %s of load %s: %w", run, load, loader.ErrLost)
}

// seesAll reports whether the user sees the sessions of all users. It reports false if the
// server does not tell.
func (r *Registry) seesAll(ctx context.Context) (bool, error) {
	if r.info.Product == server.PostgreSQL {
		return true, nil
	}
	for _, q := range []string{
		`SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user`,
		`SELECT crdb_internal.has_role_option('VIEWACTIVITY')`,
		`SELECT has_system_privilege('VIEWACTIVITY')`,
		`SELECT has_system_privilege('VIEWACTIVITYREDACTED')`,
		// CockroachDB 26.1 shows a role's options to nobody. A user who sees one session of
		// others sees all.
		`SELECT count(*) > 0 FROM [SHOW CLUSTER SESSIONS] WHERE user_name <> current_user`,
	} {
		var yes bool
		err := r.persist(ctx, func(ctx context.Context) error {
			err := r.pool.QueryRow(ctx, q, pgx.QueryExecModeExec).Scan(&yes)
			if server.Code(err) != "" && server.Classify(err) != server.Retry && server.Classify(err) != server.Uncertain {
				return nil // this version lacks the function
			}
			return err
		})
		if err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}

// hidden reports whether the server hides the sessions of one of the given users, who own runs.
// It returns that user; an empty user is unknown.
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
