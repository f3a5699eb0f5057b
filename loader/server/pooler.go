package server

import (
	"context"
	"fmt"
	"time"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
)

// A PooledError reports that a connection pooler shares the server's sessions between its
// clients. Through such a pooler, session settings would leak to other clients, ending a
// session could end another client's, and a late statement could still arrive while the loader
// looks up an uncertain outcome. Nothing was written.
type PooledError struct{ Host string }

// ErrorKind implements failure.Kinded.
func (e *PooledError) ErrorKind() failure.Kind { return failure.Target }

func (e *PooledError) Error() string {
	return fmt.Sprintf("%s is a connection pooler that shares the server's sessions with other clients; name host and port of the database server itself, or a pool in session mode", e.Host)
}

// Bounds of keepsSessions.
const (
	poolRounds  = 10
	poolTimeout = 5 * time.Second
)

// keepsSessions reports whether the pooler keeps one session for each client. Two clients ask
// in turn for the process that serves them: in the other pool modes, one client gets the
// session that the other has just given back.
func (c *Config) keepsSessions(ctx context.Context, first *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, poolTimeout)
	defer cancel()
	second, err := c.connect(ctx)
	if err != nil {
		return false
	}
	defer second.Close(context.WithoutCancel(ctx))
	var was [2]int32
	for round := range poolRounds {
		for i, conn := range []*pgx.Conn{first, second} {
			var pid int32
			if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				return false
			}
			if round > 0 && pid != was[i] || pid == was[1-i] {
				return false
			}
			was[i] = pid
		}
	}
	return true
}

// pooledKey marks a connection whose session a pooler will give to another client.
const pooledKey = "loader pooled"

// discard resets a session that a pooler may give to another client.
func discard(conn *pgx.Conn) {
	if conn.IsClosed() {
		return // the pooler ends such a session
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	conn.Exec(ctx, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
}
