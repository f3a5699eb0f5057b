package loadertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// provide finds a server's binary; PostgreSQL's is fetched where none is installed. major
// is PostgreSQL's, 0 takes any.
func provide(p server.Product, major int) (localdb.Binary, error) {
	if major == 0 {
		if err := unchosen(p); err != nil {
			return localdb.Binary{}, err
		}
	}
	say := func(text string) { fmt.Fprintln(os.Stderr, "loadertest:", text) }
	return localdb.Provide(context.Background(), p, major, localdb.Reporter{Line: say})
}

// Binary returns a server's binary, for a test that starts its servers itself, or skips the
// test. PostgreSQL's is fetched where none is installed; commands that the test runs take
// it too.
func Binary(t testing.TB, p server.Product) localdb.Binary {
	t.Helper()
	b, err := provide(p, 0)
	if errors.Is(err, localdb.ErrNotFound) {
		Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if cache, err := localdb.CacheDir(); err == nil && p == server.PostgreSQL && strings.HasPrefix(b.Path, cache) {
		// Wherever the home of such a command is.
		if err := os.Setenv("LOADER_PG_BIN", b.Path); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// startOwn starts a temporary server; see provide.
func startOwn(ctx context.Context, p server.Product, major int) (*localdb.DB, error) {
	b, err := provide(p, major)
	if err != nil {
		return nil, err
	}
	return startBinary(ctx, b)
}

// startBinary starts a temporary server.
func startBinary(ctx context.Context, b localdb.Binary) (*localdb.DB, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	o := localdb.Options{Binary: b, Temporary: true}
	if b.Product == server.PostgreSQL {
		o.Settings = []string{"max_prepared_transactions=10", "max_wal_size=256MB"}
		o.TempDir = inMemory()
	}
	return startServer(ctx, o)
}

// OwnServer starts a server for one test, which may crash it, or skips the test where
// none is installed.
func OwnServer(t *testing.T, p server.Product) (Server, *localdb.DB) {
	t.Helper()
	return own(t, p, 0)
}

// OwnPostgreSQL is OwnServer of a major version of PostgreSQL, 14 to 18: one that is
// installed or was fetched, and with the build tag chaos one that is fetched now.
func OwnPostgreSQL(t *testing.T, major int) (Server, *localdb.DB) {
	t.Helper()
	if _, err := localdb.FindMajor(major); err != nil && !Chaos {
		Skip(t, fmt.Sprintf("no PostgreSQL %d is installed: -tags chaos fetches it", major))
	}
	return own(t, server.PostgreSQL, major)
}

func own(t *testing.T, p server.Product, major int) (Server, *localdb.DB) {
	t.Helper()
	CheckNoLeaks(t)
	db, err := startOwn(context.Background(), p, major)
	if errors.Is(err, localdb.ErrNotFound) {
		Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	s := Server{Name: p.String(), Version: db.Version, Cockroach: p == server.CockroachDB, Product: p, url: db.TCP, release: db.Version}
	recordRun(t, p, db.Version)
	t.Cleanup(func() {
		if db.Running() && !t.Failed() {
			s.checkSessions(context.Background(), t)
		}
		if err := db.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, db
}

// Exec runs statements at a URL and fails the test when that fails.
func Exec(t testing.TB, url string, statements ...string) {
	t.Helper()
	err := withConn(context.Background(), url, func(c *pgx.Conn) error {
		for _, q := range statements {
			if _, err := c.Exec(context.Background(), q); err != nil {
				t.Errorf("%s: %v", q, err)
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.FailNow()
	}
}

// ClusterSetting sets a setting of CockroachDB's cluster until the test ends.
func ClusterSetting(t testing.TB, url, name, value string) {
	t.Helper()
	Exec(t, url, "SET CLUSTER SETTING "+name+" = '"+value+"'")
	t.Cleanup(func() { Exec(t, url, "RESET CLUSTER SETTING "+name) })
}

// Program returns the path of a program of a server's release in dir, or skips the test: releases
// that are fetched hold the server alone.
func Program(t testing.TB, dir, name string) string {
	t.Helper()
	path, err := exec.LookPath(filepath.Join(dir, name))
	if err != nil {
		Skip(t, "no "+name+" beside the server in "+dir)
	}
	return path
}

// Value returns the only value of a query, or fails the test.
func Value[T any](t testing.TB, url, query string, args ...any) T {
	t.Helper()
	var v T
	err := withConn(context.Background(), url, func(c *pgx.Conn) error {
		return c.QueryRow(context.Background(), query, args...).Scan(&v)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// Pending executes a statement in a transaction that holds its locks until it is released,
// by the end of the test at the latest.
func Pending(t testing.TB, url, statement string, args ...any) (release func()) {
	t.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal("the URL does not parse") // not err: it may hold a password
	}
	config.RuntimeParams = map[string]string{"application_name": kitName}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	release = func() {
		conn.Exec(ctx, "ROLLBACK") // the server has let go when it answers
		conn.Close(ctx)
	}
	t.Cleanup(release)
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return release
}

// EndSessions ends the sessions of all loaders, as an administrator would, and returns how
// many they were. Only PostgreSQL, where those in the URL's database are meant, says 57P01
// to a session that it ends; CockroachDB closes the connection.
func (s Server) EndSessions(t testing.TB, url string) int {
	t.Helper()
	q := `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'loader %'`
	if s.Cockroach {
		// Of all databases: the tests of a package run one after the other. What 26.1 lists without an
		// id cannot be ended by it.
		q = `CANCEL SESSIONS IF EXISTS (SELECT session_id FROM [SHOW CLUSTER SESSIONS] WHERE application_name LIKE 'loader %' AND session_id ~ '[1-9a-f]')`
	}
	ended := 0
	err := withConn(context.Background(), url, func(c *pgx.Conn) error {
		if !s.Cockroach {
			return c.QueryRow(context.Background(), q).Scan(&ended)
		}
		tag, err := c.Exec(context.Background(), q)
		ended = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return ended
}

// CrashBackend kills one session of the loaders with -9, as the kernel does where memory is
// short: PostgreSQL then ends all of them and recovers from its log, which has what was
// flushed of it.
func CrashBackend(t testing.TB, url string) {
	t.Helper()
	pid := Value[int](t, url, `SELECT COALESCE(min(pid), 0) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'loader %'`)
	if pid == 0 {
		t.Fatal("no loader has a session to crash")
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
		p.Release()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually polls until ok returns true, or fails the test after a minute.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	eventuallyWithin(t, time.Minute, what, ok)
}

func eventuallyWithin(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(within)
	for wait := time.Millisecond; !ok(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for: %s", within, what)
		}
		time.Sleep(wait)
	}
}
