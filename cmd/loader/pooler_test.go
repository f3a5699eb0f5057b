package main

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// checkNothingStays asks several sessions of a pool, as a client that knows nothing of the
// loader, what they have.
func checkNothingStays(t *testing.T, address string, statements bool) {
	t.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	for range 4 {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if !statements { // else a transaction keeps the session from the others
			if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
				t.Fatal(err)
			}
		}
		var got string
		err = conn.QueryRow(ctx, `SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'), current_setting('extra_float_digits'),
			current_setting('default_transaction_read_only'), current_setting('synchronous_commit'), (SELECT count(*) FROM pg_prepared_statements))`).Scan(&got)
		if err != nil {
			t.Fatal(err)
		}
		if want := "0 0 1 off local 0"; got != want {
			t.Errorf("a session of the pool has %s, want %s", got, want)
		}
	}
}

// TestPoolersKeepNothing goes through a pooler, which gives the sessions that the loader
// had to others.
func TestPoolersKeepNothing(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	for _, c := range []struct {
		name, settings string
		done           int
	}{
		{"transaction", "pool_mode = transaction", exitTarget},
		{"transaction in turn", "pool_mode = transaction\nserver_round_robin = 1", exitTarget},
		{"statement", "pool_mode = statement", exitTarget},
		{"session", "pool_mode = session", exitOK},
		{"session without a reset", "pool_mode = session\nserver_reset_query =", exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			direct := s.NewDatabase(t)
			loadertest.Exec(t, direct, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = local'; END $$")
			pooled := loadertest.Pooler(t, direct, c.settings)
			other := strings.Replace(pooled, "?", "?application_name=loadertest&", 1)
			out := runTo(t, c.done, command(pooled, "points", "--n", "1000", "--workers", "2"))
			if refused := strings.Contains(out, "is a connection pooler") && strings.Contains(out, "database server itself"); refused != (c.done == exitTarget) {
				t.Errorf("got %s", out)
			}
			runTo(t, c.done, command(pooled, "plan", "points"))
			checkNothingStays(t, other, c.name == "statement")
			if c.done == exitTarget {
				if n := loadertest.Value[int](t, direct, "SELECT count(*) FROM pg_class WHERE relname IN ('points', 'loads')"); n > 0 {
					t.Error("tables were made")
				}
				loadertest.Exec(t, direct, "CREATE TABLE points (id INT8)")
			}
			want := map[int]string{exitOK: "1000", exitTarget: "0"}[c.done]
			if got := strings.TrimSpace(runTo(t, exitOK, command(pooled, "count", "--table", "points"))); !strings.HasPrefix(got, want+" ") && got != want {
				t.Errorf("counted %q", got)
			}
			checkNothingStays(t, other, c.name == "statement")
		})
	}
}
