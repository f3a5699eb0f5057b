package server

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A host is one host of a connection string.
type host struct {
	name string
	port uint16
}

// String returns host and port for printing: "db1:26257", or the directory of a Unix socket.
func (h host) String() string {
	if filepath.IsAbs(h.name) {
		return h.name
	}
	return net.JoinHostPort(h.name, fmt.Sprint(h.port))
}

// hostsOf returns the hosts that a connection string names, in order.
func hostsOf(cfg *pgx.ConnConfig) []host {
	list := []host{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks {
		if h := (host{f.Host, f.Port}); !slices.Contains(list, h) { // pgx lists a host twice: with TLS and without
			list = append(list, h)
		}
	}
	return list
}

// Hosts returns all hosts that the connection string names, for printing.
func (c *Config) Hosts() string {
	var list []string
	for _, h := range hostsOf(c.pgx) {
		list = append(list, h.String())
	}
	return strings.Join(list, ", ")
}

// host returns the connected host, or else the first host of the string.
func (c *Config) host() host {
	if c.connected.name != "" {
		return c.connected
	}
	return hostsOf(c.pgx)[0]
}

// at returns a copy of c that records which of its hosts conn is connected to. If no host name
// resolves to the connected address any more, it records the address instead.
func (c *Config) at(ctx context.Context, conn *pgx.Conn) *Config {
	list := hostsOf(c.pgx)
	if len(list) == 1 {
		return c
	}
	found := *c
	switch remote := conn.PgConn().Conn().RemoteAddr().(type) {
	case *net.TCPAddr:
		found.connected = host{remote.IP.String(), uint16(remote.Port)}
		for _, h := range list {
			if int(h.port) == remote.Port && !filepath.IsAbs(h.name) && resolves(ctx, h.name, remote.IP) {
				found.connected = h
				break
			}
		}
	case *net.UnixAddr:
		for _, h := range list {
			if filepath.Join(h.name, fmt.Sprintf(".s.PGSQL.%d", h.port)) == remote.Name {
				found.connected = h
				break
			}
		}
	}
	return &found
}

// resolves reports whether a name resolves to an address.
func resolves(ctx context.Context, name string, ip net.IP) bool {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	return err == nil && slices.ContainsFunc(addresses, func(a string) bool { return ip.Equal(net.ParseIP(a)) })
}
