package server_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// poolOf opens a pool of sessions with a server as the configuration reaches it.
func poolOf(t *testing.T, address string, o server.Sessions) *pgxpool.Pool {
	t.Helper()
	ctx := context.Background()
	cfg, err := server.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.Open(ctx, cfg, "")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := srv.Pool(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.ClosePool(pool) })
	return pool
}

func setting(t *testing.T, pool *pgxpool.Pool, name string) string {
	t.Helper()
	var v string
	if err := pool.QueryRow(context.Background(), "SHOW "+name, pgx.QueryExecModeSimpleProtocol).Scan(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// params adds parameters to a URL.
func params(t *testing.T, address string, pairs ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	for i := 0; i < len(pairs); i += 2 {
		u.RawQuery += "&" + pairs[i] + "=" + url.PathEscape(pairs[i+1])
	}
	return u.String()
}

// TestSessionsWriteValuesInOneWay has the connection string, and on PostgreSQL the role,
// ask for other ways.
func TestSessionsWriteValuesInOneWay(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		address := s.NewDatabase(t)
		want := map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on", "bytea_output": "hex", "extra_float_digits": "3"}
		asked := []string{"bytea_output", "escape", "extra_float_digits", "0"}
		if !s.Cockroach {
			conn := loadertest.Connect(t, address)
			exec(t, conn, "CREATE ROLE other SUPERUSER LOGIN PASSWORD 'p'")
			t.Cleanup(func() { exec(t, conn, "DROP ROLE other") })
			for name, v := range map[string]string{"client_encoding": "LATIN1", "standard_conforming_strings": "off", "quote_all_identifiers": "on", "array_nulls": "off", "xmloption": "document"} {
				exec(t, conn, "ALTER ROLE other SET "+name+" = "+v)
			}
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal("the URL does not parse")
			}
			u.User = url.UserPassword("other", "p")
			address = u.String()
			asked = append(asked, "client_encoding", "LATIN1", "standard_conforming_strings", "off")
			want["quote_all_identifiers"], want["array_nulls"], want["xmloption"] = "off", "on", "content"
		}
		pool := poolOf(t, params(t, address, asked...), server.Sessions{Name: "loader settings", Max: 1})
		for name, v := range want {
			if got := setting(t, pool, name); !strings.EqualFold(got, v) {
				t.Errorf("%s is %s, want %s", name, got, v)
			}
		}
	})
}

// TestSessionsCommitNothingBeforeDDL has the connection string ask for commits in front of
// changes of a definition, which would end a transaction that takes both.
func TestSessionsCommitNothingBeforeDDL(t *testing.T) {
	address := params(t, loadertest.NewestCockroachServer(t).NewDatabase(t), "autocommit_before_ddl", "on")
	conn := loadertest.Connect(t, address)
	exec(t, conn, "CREATE TABLE t (id INT8 PRIMARY KEY)", "INSERT INTO t VALUES (1)")
	pool := poolOf(t, address, server.Sessions{Name: "loader settings", Max: 1})
	if got := setting(t, pool, "autocommit_before_ddl"); got != "off" {
		t.Errorf("autocommit_before_ddl is %s, want off", got)
	}
	stop := errors.New("stop")
	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for _, sql := range []string{"DELETE FROM t", "CREATE TABLE u (id INT8)"} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		return stop
	}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if n := loadertest.Value[int64](t, address, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows after a transaction that was rolled back, want 1", n)
	}
}

// TestSessionsOfAPoolAgree changes a database's time zone between two sessions of a pool,
// and opens another pool as an older one was.
func TestSessionsOfAPoolAgree(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	address := s.NewDatabase(t)
	conn := loadertest.Connect(t, address)
	zone := func(z string) {
		exec(t, conn, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET timezone = ''"+z+"'''; END $$")
	}
	zone("Asia/Tokyo")
	var seen server.Watch
	pool := poolOf(t, address, server.Sessions{Name: "loader agree", Max: 2, Ready: 1, Watch: &seen})
	first, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	zone("Asia/Kolkata")
	if got := setting(t, pool, "timezone"); got != "Asia/Tokyo" || seen.Settings()["timezone"] != got {
		t.Errorf("the second session has %s, the first %s", got, seen.Settings()["timezone"])
	}
	first.Release()
	other := poolOf(t, address, server.Sessions{Name: "loader agree", Max: 1, Settings: seen.Settings()})
	if got := setting(t, other, "timezone"); got != "Asia/Tokyo" {
		t.Errorf("another pool has %s", got)
	}
	bad := poolOf(t, address, server.Sessions{Name: "loader agree", Max: 1, Settings: map[string]string{"lc_monetary": "no_WHERE"}})
	var refused *server.SettingsError
	if err := bad.Ping(t.Context()); !errors.As(err, &refused) {
		t.Errorf("got %v, want a SettingsError", err)
	}
}

// TestEnvironmentOfASession holds that the environment counts as it does for libpq.
func TestEnvironmentOfASession(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	address := s.NewDatabase(t)
	t.Setenv("PGTZ", "Asia/Tokyo")
	t.Setenv("PGDATESTYLE", "SQL, DMY")
	t.Setenv("PGOPTIONS", "-c intervalstyle=sql_standard -c timezone=UTC")
	t.Setenv("PGCLIENTENCODING", "LATIN1")
	pool := poolOf(t, address, server.Sessions{Name: "loader env", Max: 1})
	for name, want := range map[string]string{"timezone": "Asia/Tokyo", "datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "client_encoding": "UTF8"} {
		if got := setting(t, pool, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	pool = poolOf(t, params(t, address, "timezone", "Asia/Kolkata", "DateStyle", "German"), server.Sessions{Name: "loader env", Max: 1})
	if tz, style := setting(t, pool, "timezone"), setting(t, pool, "datestyle"); tz != "Asia/Kolkata" || !strings.HasPrefix(style, "German") {
		t.Errorf("the URL's settings are %s and %s", tz, style)
	}
	t.Setenv("PGTZ", "default")
	pool = poolOf(t, address, server.Sessions{Name: "loader env", Max: 1})
	if got := setting(t, pool, "timezone"); got != "UTC" {
		t.Errorf("PGTZ=default leaves %s, want that of PGOPTIONS", got)
	}
}

// TestNewSessionsAreAskedOnce holds that a new session costs one query beyond its start. One that
// the pool opened before it was wanted has been pinged, too.
func TestNewSessionsAreAskedOnce(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		ping := &loadertest.Fault{When: loadertest.Match{SQL: "^-- ping$"}, Do: loadertest.Delay, Times: -1}
		p := loadertest.NewProxy(t, s.NewDatabase(t), ping)
		var rows [][][]byte
		cfg, err := server.Parse(p.URL())
		if err != nil {
			t.Fatal(err)
		}
		srv, err := server.Open(t.Context(), cfg, "")
		if err != nil {
			t.Fatal(err)
		}
		before, pings := p.Stats().Frontend, ping.Count()
		pool, err := srv.Pool(t.Context(), server.Sessions{Name: "loader ask", Max: 1, AttemptTimeout: 20e9, ReadOnly: true,
			Ask:      func() string { return "SELECT 'asked' AS a, NULL AS b FROM (VALUES (1), (2)) AS t" },
			Answered: func(_ *pgx.Conn, found [][][]byte) error { rows = found; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer server.ClosePool(pool)
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		after := p.Stats().Frontend
		queries, parses := after[loadertest.MsgQuery]-before[loadertest.MsgQuery], after[loadertest.MsgParse]-before[loadertest.MsgParse]
		if pings = ping.Count() - pings; pings > 1 || queries-pings != 1 || parses != 0 {
			t.Errorf("%d queries, %d pings among them, and %d prepared ones; want one, and a ping at most", queries, pings, parses)
		}
		if len(rows) != 2 || string(rows[1][0]) != "asked" || rows[1][1] != nil {
			t.Errorf("the answer is %q", rows)
		}
		if server.SessionID(conn.Conn()) == "" {
			t.Error("the session has no name")
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE t (a INT8)"); server.Code(err) != "25006" {
			t.Errorf("got %v, want 25006", err)
		}
	})
}
