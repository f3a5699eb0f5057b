package server

import (
	"context"
	"fmt"
	"time"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
)

// A PooledError says that a connection pooler shares the server's sessions between its
// clients. Settings of a session would stay for the others, ending a session could end
// another's, and a late statement could still arrive when an uncertain outcome is looked
// up. Nothing was written.
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

// keepsSessions reports whether a pooler leaves each client the session that it has. Two
// clients ask in turn which process serves them: in the other modes the one gets the
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

// pooledKey marks a connection whose session a pooler gives to another client afterwards.
const pooledKey = "loader pooled"

// discard leaves nothing of ours in a session that a pooler may give to another client.
func discard(conn *pgx.Conn) {
	if conn.IsClosed() {
		return // the pooler ends such a session
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	conn.Exec(ctx, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
}
