package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// A loginConn preserves the server's reason when it closes the connection during log-in. In
// TLS 1.3 the client writes before the server has checked its certificate. If the server
// refuses it, that write may fail with a reset, and its error would hide the alert with the
// reason that waits in the receive buffer.
type loginConn struct {
	net.Conn
	in atomic.Bool // logged in: Conn is used unchanged
}

// Write reports success on a connection that the server closed during log-in. The next Read
// then returns the server's last message, or the end.
func (c *loginConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && !c.in.Load() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return len(p), nil
	}
	return n, err
}

// reportLoginFailure makes the connections of cfg report why the server refused the log-in.
func reportLoginFailure(cfg *pgconn.Config) {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &loginConn{Conn: c}, nil
	}
	cfg.AfterConnect = func(_ context.Context, c *pgconn.PgConn) error {
		nc := c.Conn()
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		if l, ok := nc.(*loginConn); ok {
			l.in.Store(true)
		}
		return nil
	}
}
