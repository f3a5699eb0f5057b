package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// checkNothingStays asks several sessions of a pool, as a client that knows nothing of the
// loader, what they have.
func checkNothingStays(t *testing.T, address string, statements bool, sessions int) {
	t.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	for range sessions {
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
// had to others: nothing that the loader sets is left in them. Pools of one or two sessions do
// not stand still.
func TestPoolersKeepNothing(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	for _, c := range []struct {
		name, settings string
		done           int
	}{
		{"transaction", "pool_mode = transaction", exitOK},
		{"transaction in turn", "pool_mode = transaction\nserver_round_robin = 1", exitOK},
		{"transaction of one", "pool_mode = transaction\ndefault_pool_size = 1", exitOK},
		{"statement", "pool_mode = statement", exitTarget},
		{"session", "pool_mode = session", exitOK},
		{"session without a reset", "pool_mode = session\nserver_reset_query =", exitOK},
		{"session of two", "pool_mode = session\ndefault_pool_size = 2\nserver_reset_query =", exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "transaction in turn" {
				loadertest.Slow(t)
			}
			direct := s.NewDatabase(t)
			loadertest.Exec(t, direct, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = local'; END $$")
			pooled := loadertest.Pooler(t, direct, c.settings)
			other := strings.Replace(pooled, "?", "?application_name=loadertest&", 1)
			statements, all := c.name == "statement", 4
			if strings.HasSuffix(c.name, "of one") {
				all = 1
			} else if strings.HasSuffix(c.name, "of two") {
				all = 2
			}
			first := command(pooled, "points", "--n", "1000", "--chunk", "100", "--workers", "2")
			if statements { // what is refused is not tried for minutes
				first.Args = append(first.Args, "--retry-for", "10s")
			}
			first.Args = slices.DeleteFunc(first.Args, func(arg string) bool { return arg == "--quiet" })
			out := runTo(t, c.done, first)
			if told := strings.Contains(out, "is a connection pooler") && (strings.Contains(out, "database server itself") || strings.Contains(out, "a connection to the server itself is faster")); !told {
				t.Errorf("got %s", out)
			}
			checkNothingStays(t, other, statements, all)
			runTo(t, c.done, command(pooled, "plan", "points"))
			if c.done == exitTarget {
				if n := loadertest.Value[int](t, direct, "SELECT count(*) FROM pg_class WHERE relname IN ('points', 'loads')"); n > 0 {
					t.Error("tables were made")
				}
				return
			}
			if got := strings.TrimSpace(runTo(t, exitOK, command(pooled, "count", "--table", "points"))); !strings.HasPrefix(got, "1000 ") && got != "1000" {
				t.Errorf("counted %q", got)
			}
			list := loads(t, pooled)
			runTo(t, exitOK, command(pooled, "loads", "verify", list[0].ID))
			runTo(t, exitOK, command(pooled, "loads", "resume", list[0].ID))
			checkNothingStays(t, other, statements, all)
		})
	}
}

// TestWhatPoolersCannotDo asks for what is not exact without sessions that can be ended.
func TestWhatPoolersCannotDo(t *testing.T) {
	direct := loadertest.PostgreSQLServer(t).NewDatabase(t)
	pooled := loadertest.Pooler(t, direct, "pool_mode = transaction")
	for _, c := range [][]string{
		{"points", "--n", "10", "--commit", "statement"},
		{"points", "--n", "10", "--no-registry"},
		{"points", "--n", "10", "--indexes", "defer"},
		{"bench", "points", "--chunks", "10", "--budget", "1s"},
	} {
		out := runTo(t, exitTarget, command(pooled, c...))
		if !strings.Contains(out, "is a connection pooler, and ") || !strings.Contains(out, "connect to the database server itself") {
			t.Errorf("%v: got %s", c, out)
		}
	}
	if n := loadertest.Value[int](t, direct, "SELECT count(*) FROM pg_class WHERE relname IN ('points', 'loads')"); n > 0 {
		t.Error("tables were made")
	}
	// A load that was begun without the pooler, and can only be verified through it.
	runTo(t, exitOK, command(direct, "points", "--n", "10", "--commit", "statement"))
	id := loads(t, direct)[0].ID
	runTo(t, exitOK, command(pooled, "loads", "verify", id))
	if out := runTo(t, exitTarget, command(pooled, "loads", "resume", id)); !strings.Contains(out, "needs sessions that can be ended") {
		t.Errorf("got %s", out)
	}
}

// TestSettingsThatPoolersRefuse names settings in the URL that a pooler does not take at the
// start of a session: transactions have them all the same, and nobody else.
func TestSettingsThatPoolersRefuse(t *testing.T) {
	direct := loadertest.PostgreSQLServer(t).NewDatabase(t)
	loadertest.Exec(t, direct, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = local'; END $$",
		"CREATE SCHEMA app", "CREATE TABLE app.t (id INT8 PRIMARY KEY, had TEXT DEFAULT current_setting('my.own', true))")
	pooled := loadertest.Pooler(t, direct, "pool_mode = transaction\ndefault_pool_size = 2")
	path := filepath.Join(t.TempDir(), "t.csv")
	if err := os.WriteFile(path, []byte("id\n1\n2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, with := range []string{"&search_path=app&my.own=x", "&options=-c%20search_path%3Dapp%20-cmy.own%3Dx", "&options=-c%20search_path%3Dapp%20-cmy.own%3Dx&default_query_exec_mode=simple_protocol"} {
		loadertest.Exec(t, direct, "TRUNCATE app.t")
		runTo(t, exitOK, command(pooled+with, "csv", path, "--table", "t", "--again"))
		if got := loadertest.Value[int](t, direct, "SELECT count(*) FROM app.t WHERE had = 'x'"); got != 2 {
			t.Errorf("%d: %d rows have the setting, want 2", i, got)
		}
		if got := strings.TrimSpace(runTo(t, exitOK, command(pooled+with, "count", "--table", "t"))); !strings.HasPrefix(got, "2") {
			t.Errorf("%d: counted %q", i, got)
		}
		checkNothingStays(t, strings.Replace(pooled, "?", "?application_name=loadertest&", 1), false, 2)
	}
}

// TestKilledThroughAPooler kills loads with -9 while they go through a pooler, and resumes them
// through it with other settings: by another run, which knows from the heartbeat alone that the
// first is dead. A pool of two sessions does not stand still, and no session keeps anything.
func TestKilledThroughAPooler(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.PostgreSQLServer(t)
	for i, settings := range []string{
		"pool_mode = transaction", "pool_mode = transaction\nserver_round_robin = 1\ndefault_pool_size = 2",
		"pool_mode = session", "pool_mode = session\nserver_reset_query =\ndefault_pool_size = 2",
	} {
		t.Run(settings, func(t *testing.T) {
			direct := registered(t, s)
			loadertest.Exec(t, direct, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = local'; END $$")
			pooled := loadertest.Pooler(t, direct, settings)
			k := &killing{rng: newRandom(t), want: 6, through: pooled}
			k.died = func() {
				if i == 1 && k.kills == 1 {
					return // this one is found to be dead after the usual time
				}
				loadertest.Exec(t, direct, "UPDATE loader.claims SET beat = beat - INTERVAL '1 hour'")
			}
			var list []subject
			for _, kind := range []string{"csv", "points"} {
				for _, sub := range subjects(t, s, 2000)[kind] {
					if sub.way == "transaction" {
						list = append(list, sub)
					}
				}
			}
			for round := 0; k.kills < k.want; round++ {
				if round == 10*k.want {
					t.Fatalf("%d loads were killed %d times, want %d", round, k.kills, k.want)
				}
				sub := list[round%len(list)]
				sub.fresh(t, direct)
				start := time.Now()
				runTo(t, sub.done(), command(pooled, sub.command("--chunk", "50")...))
				k.load(t, direct, sub, time.Since(start))
			}
			t.Logf("killed %d times", k.kills)
			checkNothingStays(t, strings.Replace(pooled, "?", "?application_name=loadertest&", 1), false, 2)
		})
	}
}
