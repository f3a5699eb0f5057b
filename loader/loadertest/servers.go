// Package loadertest is the kit of the project's tests: real databases, a proxy that
// breaks connections to them, and checks that every row is there once. Only tests
// import it.
package loadertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// A Server is a real database that lives for one test binary.
type Server struct {
	*localdb.DB
	mu    sync.Mutex
	names int
}

// running holds the servers of this test binary, by product.
var running struct {
	sync.Mutex
	servers map[server.Product]*Server
	skipped []string
}

// Main runs the tests of a package that uses Servers, stops the servers, and says how
// many tests were skipped for want of one. Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(loadertest.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	running.Lock()
	defer running.Unlock()
	for p, s := range running.servers {
		if err := s.Stop(context.Background()); err != nil {
			fmt.Fprintf(os.Stderr, "stop %s: %v\n", p, err)
			code = max(code, 1)
		}
	}
	if n := len(running.skipped); n > 0 {
		slices.Sort(running.skipped)
		fmt.Printf("%d tests skipped: %s\n", n, strings.Join(slices.Compact(running.skipped), "; "))
	}
	return code
}

// Start returns the test binary's server of a product, started with the first call,
// or skips the test where none is installed.
func Start(t testing.TB, p server.Product) *Server {
	t.Helper()
	running.Lock()
	defer running.Unlock()
	if s := running.servers[p]; s != nil {
		return s
	}
	b, err := localdb.FindProduct(p)
	if err != nil {
		running.skipped = append(running.skipped, err.Error())
		t.Skip(err)
	}
	db, err := localdb.Start(context.Background(), localdb.Options{Binary: b, Temporary: true, Settings: settings(p)})
	if err != nil {
		t.Fatal(err)
	}
	if running.servers == nil {
		running.servers = map[server.Product]*Server{}
	}
	s := &Server{DB: db}
	running.servers[p] = s
	if p == server.CockroachDB {
		// As PostgreSQL without fsync: tests do not cut the power.
		s.Exec(t, db.TCP, "SET CLUSTER SETTING kv.raft_log.disable_synchronization_unsafe = true")
	}
	return s
}

func settings(p server.Product) []string {
	if p == server.PostgreSQL {
		return []string{"max_prepared_transactions=10"}
	}
	return nil
}

// Each runs f as a subtest against PostgreSQL and against CockroachDB, where they are
// installed.
func Each(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) { f(t, Start(t, p)) })
	}
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// NewDatabase makes an empty database for the test and returns its URL. It is dropped
// when the test ends.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.names++
	name := fmt.Sprintf("t%d_%.40s", s.names, notWord.ReplaceAllString(strings.ToLower(t.Name()), "_"))
	s.mu.Unlock()
	s.Exec(t, s.TCP, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	t.Cleanup(func() {
		drop := "DROP DATABASE IF EXISTS " + pgx.Identifier{name}.Sanitize()
		if s.Product == server.PostgreSQL {
			drop += " WITH (FORCE)"
		} else {
			drop += " CASCADE"
		}
		if t.Failed() {
			return // left for a look while the binary runs
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, s.TCP)
		if err != nil {
			return // a test that stopped the server
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, drop); err != nil {
			t.Errorf("drop %s: %v", name, err)
		}
	})
	u, err := url.Parse(s.TCP)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// Exec runs statements at a URL and fails the test when that fails.
func (s *Server) Exec(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn := Connect(t, url)
	defer conn.Close(context.Background())
	for _, q := range statements {
		if _, err := conn.Exec(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// Connect opens a connection, or fails the test.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Value returns the only value of a query.
func Value[T any](t testing.TB, url, query string, args ...any) T {
	t.Helper()
	conn := Connect(t, url)
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(context.Background(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// Eventually polls until ok returns true, or fails the test after a minute.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for wait := time.Millisecond; !ok(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for: %s", what)
		}
		time.Sleep(wait)
	}
}

// StartOwn starts a server for one test, which may crash it.
func StartOwn(t *testing.T, p server.Product) *Server {
	t.Helper()
	b, err := localdb.FindProduct(p)
	if err != nil {
		t.Skip(err)
	}
	db, err := localdb.Start(context.Background(), localdb.Options{Binary: b, Temporary: true, Settings: settings(p)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &Server{DB: db}
}
