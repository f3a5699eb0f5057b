package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// pgbouncer starts a pooler before the server of a URL, and returns the URL through it.
func pgbouncer(t *testing.T, address, settings string) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			loadertest.Skip(t, "no pgbouncer on PATH")
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "pooler")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	password, _ := u.User.Password()
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	for name, text := range map[string]string{
		users: fmt.Sprintf("%q %q\n", u.User.Username(), password),
		config: fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\n%s\n",
			u.Port(), port, users, settings),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 { // which it does not run as
		if _, err := user.Lookup("nobody"); err != nil {
			loadertest.Skip(t, "no user for pgbouncer")
		}
		args = append(args, "-u", "nobody")
	}
	var out strings.Builder
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	loadertest.Eventually(t, "pgbouncer", func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return u.String()
}

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
			pooled := pgbouncer(t, direct, c.settings)
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
