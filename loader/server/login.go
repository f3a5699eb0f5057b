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

// A loginConn hears a server out that ends the connection while the client logs in. In TLS
// 1.3 the client writes before the server has looked at its certificate: where it is
// refused, the write may find the connection reset, and its error would stand for the
// alert that lies in the receive buffer with the reason.
type loginConn struct {
	net.Conn
	in atomic.Bool // logged in: from now on it is its Conn alone
}

// Write takes a connection that is closed by the server for a write that succeeded, while
// the client logs in. The next Read has what the server said last, or the end.
func (c *loginConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && !c.in.Load() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return len(p), nil
	}
	return n, err
}

// reportLoginFailure makes cfg's connections report why a server refuses them.
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
