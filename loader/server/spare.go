package server

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A spare is a network connection that was dialled while the first one asked the server what it
// is. The first session of a pool takes it, and so waits a round trip less for a far server. It
// is safe for concurrent use.
type spare struct {
	address string
	dialled chan net.Conn // one, or closed
}

// spareTimeout is how long a spare waits for a pool.
const spareTimeout = time.Second

// dialSpare begins to dial the server of conn again. It returns nil if there is no network
// between.
func dialSpare(ctx context.Context, conn *pgx.Conn) *spare {
	remote := conn.PgConn().Conn().RemoteAddr()
	if remote == nil || remote.Network() != "tcp" {
		return nil
	}
	s := &spare{address: remote.String(), dialled: make(chan net.Conn, 1)}
	dial := conn.Config().DialFunc
	go func() {
		defer close(s.dialled)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ConnectTimeout)
		defer cancel()
		c, err := dial(ctx, remote.Network(), s.address)
		if err != nil {
			return // the pool dials for itself, and its error counts
		}
		s.dialled <- c
		time.AfterFunc(spareTimeout, func() {
			if c, ok := <-s.dialled; ok {
				c.Close()
			}
		})
	}()
	return s
}

// use makes the spare the first connection of cfg that somebody waits for: a pool opens others
// in the background.
func (s *spare) use(cfg *pgx.ConnConfig) {
	if s == nil {
		return
	}
	var first sync.Once
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		if strings.HasPrefix(network, "tcp") && addr == s.address && ctx.Value(background{}) == nil {
			first.Do(func() {
				select {
				case c = <-s.dialled:
				case <-ctx.Done():
				}
			})
		}
		if c != nil {
			return c, nil
		}
		return dial(ctx, network, addr)
	}
}

// background is the key of a value that contexts of connections have for which nobody waits.
type background struct{}
