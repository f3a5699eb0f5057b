package loadertest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// A Server is a real database server that runs for the tests of one package.
type Server struct {
	Name      string // "PostgreSQL" or "CockroachDB"
	Version   string // what version() says
	Cockroach bool
	Product   server.Product
	url       string // as a user who may do everything
	release   string // what its binary calls itself: "15.18"
}

// ForEachServer runs test as a sub-test on PostgreSQL and on CockroachDB. Where
// package localdb finds no binary of one, its sub-test is skipped. The package needs a
// TestMain that calls [Main], which stops the servers.
func ForEachServer(t *testing.T, test func(t *testing.T, srv Server)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k.need(t)) })
	}
}

// ForServer is ForEachServer on the server of that name alone, and on the others with the
// build tag chaos: for what hardly depends on the server.
func ForServer(t *testing.T, name string, test func(t *testing.T, srv Server)) {
	t.Helper()
	forServer(t, name, Long, test)
}

// ForServerFirst is ForEachServer on the server of that name, and on the others as a slow
// test; see [Slow]: for what takes seconds there and is much the same.
func ForServerFirst(t *testing.T, name string, test func(t *testing.T, srv Server)) {
	t.Helper()
	forServer(t, name, Slow, test)
}

func forServer(t *testing.T, name string, others func(testing.TB), test func(t *testing.T, srv Server)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if k.name != name {
				others(t)
			}
			test(t, k.need(t))
		})
	}
}

// PostgreSQLServer returns the PostgreSQL of the test process, for a test of what
// PostgreSQL alone has.
func PostgreSQLServer(t testing.TB) Server { return postgres.need(t) }

// CockroachServer returns the CockroachDB of the test process, or skips the test.
func CockroachServer(t testing.TB) Server { return cockroach.need(t) }

// NewDatabase creates a database and returns its URL. At the end of the test the
// database is dropped; see dropLater for CockroachDB. On PostgreSQL a session that is then
// still in it, but for the kit's own, fails the test (CockroachDB does not say where a session
// is; for all of them see CheckNoLeaks).
func (s Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create database: %v", err)
	}
	url := s.withSettings(withDatabase(s.url, name))
	keep(url)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := forget(ctx, url); err != nil {
			t.Logf("close the kit's connection: %v", err) // a test may have ended it
		}
		if s.Cockroach {
			if err := s.dropLater(ctx, name); err != nil {
				t.Error(err)
			}
			return
		}
		if left := poll(func() string { return s.sessions(ctx, name) }); left != "" {
			t.Errorf("sessions left in the test's database:\n%s", left)
		}
		err := s.exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		if err != nil && server.Code(err) != pgerrcode.InvalidCatalogName { // the test may have dropped it
			t.Errorf("drop database: %v", err)
		}
	})
	return url
}

// exec executes one statement as a user who may do everything.
func (s Server) exec(ctx context.Context, sql string) error {
	return withConn(ctx, s.url, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
}

// URL returns the URL of the server's first database, as a user who may do
// everything. Tests use NewDatabase; this is for users, settings and sessions.
func (s Server) URL() string { return s.url }

// withDatabase returns serverURL with another database.
func withDatabase(serverURL, name string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		panic(err) // it comes from a server that we started and reached
	}
	u.Path = "/" + name
	return u.String()
}

// withConn calls f with a connection that nobody else uses: one that is kept, if it still
// answers, else a new one.
func withConn(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	if c := takeKept(url); c != nil {
		if c.Ping(ctx) == nil {
			return errors.Join(f(c), giveBack(ctx, url, c))
		}
		c.Close(ctx)
	}
	c, err := connectKit(ctx, url)
	if err != nil {
		return err
	}
	return errors.Join(f(c), giveBack(ctx, url, c))
}

// connectKit returns a new connection of the kit's own.
func connectKit(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["options"] == startOptions() {
		delete(config.RuntimeParams, "options")
	}
	if _, ok := config.RuntimeParams["application_name"]; !ok {
		config.RuntimeParams["application_name"] = kitName
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec // tables change between two statements
	return pgx.ConnectConfig(ctx, config)
}

// kitName is the application_name of the kit's own connections.
const kitName = "loadertest"
