package importer

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/dataset"
	"bulkload/loader/importer/serve"
	"bulkload/loader/server"
)

// Listen begins to serve files, and lets the database probe the address. It returns the file
// server, or why the database cannot reach it, and sets address and secret in s.
func Listen(ctx context.Context, pool *pgxpool.Pool, s *State, o Options, note func(string)) (srv *serve.Server, why string, err error) {
	host := ""
	if name, _, err := net.SplitHostPort(o.Addr); err == nil {
		if ip := net.ParseIP(name); name == "" || ip != nil && ip.IsUnspecified() {
			// It listens at every address: URLs name the address by which this machine reaches
			// the server.
			if host, err = ownAddress(ctx, pool); err != nil {
				return nil, "", err
			}
		}
	} else if o.Addr != "" {
		return nil, "", dataset.Contradict("--serve-addr takes HOST:PORT, not %q", o.Addr)
	}
	s.Secret = serve.NewSecret()
	if srv, err = serve.Listen(o.Addr, host, o.CertFile, o.KeyFile, s.Secret); err != nil {
		return nil, "", &dataset.TableError{Reason: err.Error()}
	}
	s.Addr = srv.Addr()
	err = server.WithDedicatedConn(ctx, pool, func(conn *pgx.Conn) error { return Probe(ctx, srv, conn) })
	if err == nil {
		if own, _, _ := net.SplitHostPort(s.Addr); o.CertFile == "" && !isLoopback(own) {
			note(fmt.Sprintf("the server reads the rows from %s unencrypted; --serve-cert and --serve-key encrypt them", s.Addr))
		}
		return srv, "", nil
	}
	srv.Close()
	if ctx.Err() != nil {
		return nil, "", ctx.Err()
	}
	var privilege *PrivilegeError
	if !errors.As(err, &privilege) && !errors.Is(err, ErrUnreachable) {
		return nil, "", err // the connection broke, and the probe tells nothing
	}
	why = err.Error()
	if o.CertFile != "" {
		why += ", or does not trust the certificate of --serve-cert"
	}
	return nil, why + "; --handoff upload needs nothing but the connection", nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ownAddress returns the address of this machine on the way to the server.
func ownAddress(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var own string
	err := server.WithDedicatedConn(ctx, pool, func(conn *pgx.Conn) error {
		addr, _, err := net.SplitHostPort(conn.PgConn().Conn().LocalAddr().String())
		own = addr
		return err
	})
	if err != nil {
		return "", fmt.Errorf("find this machine's address: %w", err)
	}
	return own, nil
}
