package loadertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// startOwn starts a temporary server.
func startOwn(ctx context.Context, p server.Product) (*localdb.DB, error) {
	b, err := localdb.FindProduct(p)
	if err != nil {
		return nil, err
	}
	o := localdb.Options{Binary: b, Temporary: true}
	if p == server.PostgreSQL {
		o.Settings = []string{"max_prepared_transactions=10"}
	}
	return localdb.Start(ctx, o)
}

// OwnServer starts a server for one test, which may crash it, or skips the test where
// none is installed.
func OwnServer(t *testing.T, p server.Product) (Server, *localdb.DB) {
	t.Helper()
	db, err := startOwn(context.Background(), p)
	if errors.Is(err, localdb.ErrNotFound) {
		Skip(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return Server{Name: p.String(), Version: db.Version, Cockroach: p == server.CockroachDB, Product: p, url: db.TCP}, db
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
