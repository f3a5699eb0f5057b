package registry

import (
	"context"
	"time"

	"bulkload/loader/server"
)

// A lockedError says that a load was locked for a whole attempt.
type lockedError struct {
	load string
	error
}

func (e lockedError) Unwrap() error { return e.error }

// endSilent ends sessions of a load's runs that hold its lock and have waited for their client
// for StaleAfter. PostgreSQL has no timeout for a session that received half a statement from a
// client which then fell silent. A successor would wait for the lock until TCP keepalive
// detects the dead client. Registry transactions do not pause between two messages, so no live
// run is affected. The server rolls back the ended transactions. Errors show in the next
// attempt at the lock.
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
