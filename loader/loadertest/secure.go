//go:build unix

package loadertest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// A SecureServer is a server of one test that speaks TLS, and takes client certificates.
// Its certificate is for the host name localhost.
//
// On CockroachDB every user may log in by certificate or password. On PostgreSQL one
// without a password must by certificate, the others by password; either needs TLS.
type SecureServer struct {
	Server
	// Authority signed the server's certificate and signs those of clients.
	Authority *Authority
	// CertsDir holds ca.crt, and on CockroachDB the certificates of the node and
	// root, as cockroach cert makes it; CAKey is the authority's key.
	CertsDir, CAKey string
	// Port is on localhost.
	Port int

	t  *testing.T
	db *localdb.DB
}

// EachSecureServer runs test as a sub-test on PostgreSQL and on CockroachDB, each with
// a server of its own. Without the build tag chaos it leaves out what is not among the
// usual names, if there are any.
func EachSecureServer(t *testing.T, test func(t *testing.T, s *SecureServer), usual ...string) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if len(usual) > 0 && !slices.Contains(usual, k.name) {
				Long(t)
			}
			b := Binary(t, k.product)
			CheckNoLeaks(t)
			s := &SecureServer{t: t, Authority: NewAuthority(t, "Test CA"), CertsDir: t.TempDir()}
			s.CAKey = filepath.Join(t.TempDir(), "ca.key")
			s.Authority.WriteCert(filepath.Join(s.CertsDir, "ca.crt"))
			s.Authority.WriteKey(s.CAKey)
			o := localdb.Options{Binary: b, Temporary: true}
			if k.product == server.CockroachDB {
				s.Authority.Write(s.CertsDir, "node", Leaf{Name: "node", Hosts: []string{"localhost"}})
				s.Authority.Write(s.CertsDir, "client.root", Leaf{Name: "root"})
				o.CertsDir = s.CertsDir
			}
			var err error
			if s.db, err = startServer(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if !t.Failed() {
					s.checkSessions(context.Background(), t)
				}
				if err := s.db.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			s.Server = Server{Name: k.name, Version: b.Version, Cockroach: k.product == server.CockroachDB, Product: k.product, url: s.db.TCP, release: b.Version}
			recordRun(t, k.product, b.Version)
			if k.product == server.PostgreSQL {
				s.url = s.db.URL // the unix socket, without TLS
				s.secure()
			}
			c, err := pgconn.ParseConfig(s.db.TCP)
			if err != nil {
				t.Fatal("the server's URL does not parse") // not err: it may hold the password
			}
			s.Port = int(c.Port)
			test(t, s)
		})
	}
}

// secure makes PostgreSQL ask for TLS.
func (s *SecureServer) secure() {
	s.t.Helper()
	s.Authority.WriteCert(s.own("root.crt"))
	s.Authority.Write(filepath.Join(s.db.Dir, "data"), "server", Leaf{Name: "server", Hosts: []string{"localhost"}})
	const hba = "local all all trust\nhostssl all +by_certificate 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(s.own("pg_hba.conf"), []byte(hba), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.chown()
	Exec(s.t, s.url, "CREATE ROLE by_certificate", "ALTER SYSTEM SET ssl_ca_file = 'root.crt'", "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
	Eventually(s.t, "PostgreSQL with TLS", func() bool { return Value[string](s.t, s.url, "SHOW ssl") == "on" })
}

// own returns the path of a file in PostgreSQL's data directory.
func (s *SecureServer) own(name string) string { return filepath.Join(s.db.Dir, "data", name) }

// chown gives the files of certificates to PostgreSQL's user.
func (s *SecureServer) chown() {
	s.t.Helper()
	info, err := os.Stat(s.own("PG_VERSION"))
	if err != nil {
		s.t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for _, name := range []string{"root.crt", "server.crt", "server.key", "pg_hba.conf"} {
		if err := os.Chown(s.own(name), int(st.Uid), int(st.Gid)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Present makes the server present another certificate, signed by a, to new
// connections.
func (s *SecureServer) Present(a *Authority, l Leaf) {
	s.t.Helper()
	if s.Cockroach {
		l.Name = "node"
		a.Write(s.CertsDir, "node", l)
		b, err := os.ReadFile(filepath.Join(s.db.Dir, "pid"))
		if err != nil {
			s.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGHUP)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return
	}
	l.Name = "server"
	a.Write(filepath.Join(s.db.Dir, "data"), "server", l)
	s.chown()
	Exec(s.t, s.url, "SELECT pg_reload_conf()")
}

// NewUser makes a user who may do everything in database, with a password where it is
// not empty, else one who logs in by certificate.
func (s *SecureServer) NewUser(name, password, database string) {
	s.t.Helper()
	create := "CREATE USER " + name
	switch {
	case password != "":
		create += " PASSWORD '" + strings.ReplaceAll(password, "'", "''") + "'"
	case !s.Cockroach:
		create += " IN ROLE by_certificate"
	}
	Exec(s.t, s.url, create, "GRANT ALL ON DATABASE "+database+" TO "+name)
}

// URLOf returns a URL for a user and database at localhost, with parameters as they
// stand behind the question mark.
func (s *SecureServer) URLOf(user, database string, parameters map[string]string) string {
	q := url.Values{}
	for k, v := range parameters {
		q.Set(k, v)
	}
	return fmt.Sprintf("postgres://%s@localhost:%d/%s?%s", user, s.Port, database, q.Encode())
}

// Handshake asks the server for TLS and returns what the client says of its
// certificate.
func (s *SecureServer) Handshake(c *tls.Config) error {
	nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return err
	}
	defer nc.Close()
	request := binary.BigEndian.AppendUint32(nil, 8)
	if _, err := nc.Write(binary.BigEndian.AppendUint32(request, codeSSL)); err != nil {
		return err
	}
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		return err
	}
	return tls.Client(nc, c).Handshake()
}
