package server

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// orphanedSessions keeps the sessions whose connections broke, for the next use of the pool to end
// them on the server. A server that hears nothing any more believes that its client is
// slow: it keeps the transaction open, and with it the locks that the next attempt needs.
// Neither statement_timeout nor idle_in_transaction_session_timeout ends one that waits
// for the rest of a COPY or of a pipeline (seen on PostgreSQL 15); its keepalive takes
// two hours.
type orphanedSessions struct {
	product Product

	mu       sync.Mutex
	sessions []string
}

// watch hooks the list into a pool's configuration.
func (l *orphanedSessions) watch(cfg *pgxpool.Config) {
	cfg.BeforeClose = func(conn *pgx.Conn) {
		if !conn.IsClosed() {
			return // it says good-bye
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

// sessionKey is where a pool's connection keeps its session's id: settle puts it there.
const sessionKey = "loader session"

// SessionID returns the server's id of the session of a pool's connection: CockroachDB's
// session_id, PostgreSQL's process, which behind a pooler is not that of the protocol; or
// nothing.
func SessionID(conn *pgx.Conn) string {
	id, _ := conn.PgConn().CustomData()[sessionKey].(string)
	return id
}

// end ends those of the sessions that are still there. A process id may belong to
// another by now: only sessions of the same name are ours to end.
//
// Note: tried to leave that to the timeouts alone. A transaction that went silent in its
// COPY kept the ledger row of its chunk locked until the load gave up.
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
