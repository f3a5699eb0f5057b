package registry

import (
	"context"
	"time"

	"bulkload/loader/server"
)

// A lockedError says that a load was locked for the whole time of an attempt.
type lockedError struct {
	load string
	error
}

func (e lockedError) Unwrap() error { return e.error }

// endSilent ends the sessions of a load's runs that hold its lock and have waited for their
// client for StaleAfter. No timeout of PostgreSQL ends one that has received a statement by
// half, from a client that then fell silent: who wants to take over from its run would wait
// for the lock until the keepalive of TCP finds out. A transaction of the registry takes no
// time between two of its messages, so that no run which lives is met; what is ended is
// rolled back. Errors show in the next attempt at the lock.
func (r *Registry) endSilent(ctx context.Context, load string) {
	if r.info.Product != server.PostgreSQL {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, r.AttemptTimeout)
	defer cancel()
	r.pool.Exec(ctx, `SELECT pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
		WHERE left(a.application_name, length($1::TEXT)) = $1::TEXT AND a.pid <> pg_backend_pid() AND a.wait_event_type = 'Client'
		AND a.state_change < now() - $2 * INTERVAL '1 millisecond'
		AND EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.relation = 'loader.loads'::REGCLASS)`,
		SessionName(load, ""), float64(r.StaleAfter)/float64(time.Millisecond))
}
