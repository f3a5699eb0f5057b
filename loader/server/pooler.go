package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Pooling is the way in which a connection pooler passes the server's sessions to its clients.
type Pooling uint8

// The ways of pooling, as pgbouncer names them (pool_mode).
const (
	Direct             Pooling = iota // no pooler is known of
	SessionPooling                    // a session is one client's until that disconnects
	TransactionPooling                // a session is one client's for a transaction
	StatementPooling                  // for a statement; there are no transactions of several
)

// String returns the pool mode in words.
func (p Pooling) String() string {
	return [...]string{"no pooler", "session mode", "transaction mode", "statement mode"}[p]
}

// A PooledError reports work that is not safe through a connection pooler. Nothing was written.
type PooledError struct {
	Host string // of the pooler
	// Why says what cannot be done; empty: the pooler was not expected, or shares sessions.
	Why string
}

// ErrorKind implements failure.Kinded.
func (e *PooledError) ErrorKind() failure.Kind { return failure.Target }

func (e *PooledError) Error() string {
	why := e.Why
	if why == "" {
		why = "it shares sessions between clients"
	}
	return fmt.Sprintf("%s is a connection pooler, and %s; connect to the database server itself: postgres://USER@SERVER:5432/DATABASE", e.Host, why)
}

// NotPooled returns a *PooledError if connections go through a pooler: what, in words, cannot be
// done there.
func (s *Server) NotPooled(what string) error {
	if !s.Pooled() {
		return nil
	}
	return &PooledError{Host: s.Config.Host(), Why: what}
}

// PoolerNote tells the user of the pooler and of the choice; empty without one.
func (s *Server) PoolerNote() string {
	if !s.Pooled() {
		return ""
	}
	limit := ""
	if s.maxSessions > 0 {
		limit = fmt.Sprintf(" with %d free sessions", s.maxSessions)
	}
	return fmt.Sprintf("%s is a connection pooler in %s%s: each chunk is a transaction with a ledger row and its own settings, no statement is prepared, and only its heartbeat shows that a run has died; a connection to the server itself is faster",
		s.Config.Host(), s.Pooling, limit)
}

// MaxSessions returns how many sessions a load may have at once; zero is no known limit.
func (s *Server) MaxSessions() int { return s.maxSessions }

// withoutCancel makes connections of cfg send no cancel requests once they are open. pgbouncer
// 1.18 ends itself at one for a client that waits for a session ("bad client state"). A pooler
// ends a session whose client goes away in mid-statement anyway. cfg must be of one connection.
func withoutCancel(cfg *pgconn.Config) {
	var open atomic.Bool
	dial, connected := cfg.DialFunc, cfg.AfterConnect
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if open.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, addr)
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		open.Store(true)
		if connected == nil {
			return nil
		}
		return connected(ctx, conn)
	}
}

var errNoCancel = errors.New("a pooler gets no cancel requests")

// Bounds of findPooling.
const (
	poolRounds    = 10
	poolTimeout   = 5 * time.Second // for two sessions
	sessionWait   = 2 * time.Second // for a further one
	sessionsTried = 6               // as many as a load opens before it has tried more workers
)

// findPooling finds out how the pooler behind first passes on sessions, and in session mode how
// many it has for this client: 0 if they are many. Two clients ask in turn for the process that
// serves them: without session mode, one client gets the session that the other has just given
// back. pgbouncer has no other question that every user may ask.
func (c *Config) findPooling(ctx context.Context, first *pgx.Conn) (Pooling, int, error) {
	c = c.with(c.pgx)
	c.pooled = true
	same, second, err := c.keepsSessions(ctx, first)
	if second != nil {
		defer second.Close(context.WithoutCancel(ctx))
	}
	if err != nil {
		return 0, 0, err
	}
	if same {
		n := 2
		for ; n < sessionsTried; n++ {
			more, err := c.oneMore(ctx)
			if more != nil {
				defer more.Close(context.WithoutCancel(ctx))
			}
			if err != nil {
				return SessionPooling, n, nil
			}
		}
		return SessionPooling, 0, nil
	}
	// pgbouncer refuses a transaction of several statements, and then disconnects.
	if _, err := first.Exec(ctx, "BEGIN"); err != nil {
		return StatementPooling, 0, nil
	}
	_, err = first.Exec(ctx, "ROLLBACK")
	return TransactionPooling, 0, err
}

// oneMore opens a connection that has a session of its own.
func (c *Config) oneMore(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	conn, err := c.connect(ctx)
	if err == nil {
		err = conn.Ping(ctx)
	}
	return conn, err
}

// keepsSessions reports whether the pooler keeps one session for each client. It returns the
// second client's connection.
func (c *Config) keepsSessions(ctx context.Context, first *pgx.Conn) (bool, *pgx.Conn, error) {
	late, cancel := context.WithTimeout(ctx, poolTimeout)
	defer cancel()
	second, err := c.connect(late)
	if err != nil {
		return false, nil, err
	}
	var was [2]int32
	for round := range poolRounds {
		for i, conn := range []*pgx.Conn{first, second} {
			var pid int32
			if err := conn.QueryRow(late, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				if late.Err() != nil && ctx.Err() == nil {
					err = &PooledError{Host: c.Host(), Why: fmt.Sprintf("gave no second session in %s, and a load needs two", poolTimeout)}
				}
				return false, second, err
			}
			if round > 0 && pid != was[i] || pid == was[1-i] {
				return false, second, nil
			}
			was[i] = pid
		}
	}
	return true, second, nil
}
