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

// A host is one that a connection string names.
type host struct {
	name string
	port uint16
}

// String returns host and port as they are printed: "db1:26257", or the directory of a unix
// socket.
func (h host) String() string {
	if filepath.IsAbs(h.name) {
		return h.name
	}
	return net.JoinHostPort(h.name, fmt.Sprint(h.port))
}

// hostsOf returns the hosts that a connection string names, in their order.
func hostsOf(cfg *pgx.ConnConfig) []host {
	list := []host{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks {
		if h := (host{f.Host, f.Port}); !slices.Contains(list, h) { // with TLS, and without
			list = append(list, h)
		}
	}
	return list
}

// Hosts returns all hosts that the connection string names, as they are printed.
func (c *Config) Hosts() string {
	var list []string
	for _, h := range hostsOf(c.pgx) {
		list = append(list, h.String())
	}
	return strings.Join(list, ", ")
}

// host returns the host that was connected to, else the first that the string names.
func (c *Config) host() host {
	if c.connected.name != "" {
		return c.connected
	}
	return hostsOf(c.pgx)[0]
}

// at returns a copy that knows to which of its hosts conn is connected. A name that has
// another address by now is not found: the address stands for it.
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

// resolves reports whether a name stands for an address.
func resolves(ctx context.Context, name string, ip net.IP) bool {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	return err == nil && slices.ContainsFunc(addresses, func(a string) bool { return ip.Equal(net.ParseIP(a)) })
}
