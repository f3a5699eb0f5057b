package server

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// orphanedSessions collects the sessions whose connections broke. The next use of the pool
// ends them on the server. A server that no longer hears from its client takes it for slow: it
// keeps the transaction open, with the locks that the next attempt needs. Neither
// statement_timeout nor idle_in_transaction_session_timeout ends a session that waits for the
// rest of a COPY or of a pipeline (observed on PostgreSQL 15); the TCP keepalive takes two
// hours.
type orphanedSessions struct {
	product Product

	mu       sync.Mutex
	sessions []string
}

// watch installs the hooks in a pool's configuration.
func (l *orphanedSessions) watch(cfg *pgxpool.Config) {
	cfg.BeforeClose = func(conn *pgx.Conn) {
		if !conn.IsClosed() {
			return // it says goodbye itself
		}
		if id := SessionID(conn); id != "" {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sessions = append(l.sessions, id)
		}
	}
	cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		list := l.take()
		if len(list) == 0 {
			return true, nil
		}
		if err := l.end(ctx, conn, list); err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sessions = append(l.sessions, list...)
			return false, err
		}
		return true, nil
	}
}

func (l *orphanedSessions) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.sessions
	l.sessions = nil
	return list
}

// sessionKey is the CustomData key of a connection's session id; settle sets it.
const sessionKey = "loader session"

// SessionID returns the server's id of a pool connection's session, or "" if unknown. It is
// session_id on CockroachDB and the backend's process id on PostgreSQL, which behind a pooler
// differs from the one in the protocol.
func SessionID(conn *pgx.Conn) string {
	id, _ := conn.PgConn().CustomData()[sessionKey].(string)
	return id
}

// end ends the listed sessions that still exist. A process id may have been reused, so it ends
// only sessions with our application_name.
//
// Note: tried to rely on the timeouts alone. A transaction that went silent in its COPY kept
// the ledger row of its chunk locked until the load gave up.
func (l *orphanedSessions) end(ctx context.Context, conn *pgx.Conn, list []string) error {
	if l.product == CockroachDB {
		for _, id := range list {
			if _, err := conn.Exec(ctx, "CANCEL SESSION IF EXISTS $1", id); err != nil && Classify(err) != Refused && Classify(err) != Permanent {
				return err
			}
		}
		return nil
	}
	_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
		WHERE pid::TEXT = ANY($1::TEXT[]) AND pid <> pg_backend_pid() AND usename = current_user AND application_name = current_setting('application_name')`, list)
	return err
}
