package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestPriority has the table say which priority the transactions that fill it have, however rows
// are sent. A server without priorities is refused.
func TestPriority(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.csv")
	if err := os.WriteFile(path, []byte("id\n1\n2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, priority := range []string{"background", "critical"} {
		out := runTo(t, exitTarget, command(loadertest.PostgreSQLServer(t).NewDatabase(t), "csv", path, "--table", "t", "--priority", priority))
		if !strings.Contains(out, "--priority needs CockroachDB 22.1 or newer, but this is PostgreSQL") {
			t.Errorf("got %s", out)
		}
	}
	if out := runTo(t, exitUsage, command(loadertest.PostgreSQLServer(t).URL(), "points", "--priority", "low")); !strings.Contains(out, "--priority is background, regular or critical") {
		t.Errorf("got %s", out)
	}
	s := loadertest.NewestCockroachServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, had STRING DEFAULT current_setting('default_transaction_quality_of_service'))")
	for _, c := range [][]string{
		{"background", "statement", "insert"}, {"critical", "statement", "copy"}, {"background", "transaction", "copy"}, {"regular", "transaction", "insert"},
	} {
		loadertest.Exec(t, url, "DELETE FROM t")
		runTo(t, exitOK, command(url, "csv", path, "--table", "t", "--again", "--priority", c[0], "--commit", c[1], "--via", c[2]))
		if got := loadertest.Value[string](t, url, "SELECT string_agg(DISTINCT had, ' ') FROM t"); got != c[0] {
			t.Errorf("%v: the rows were written at %s", c, got)
		}
	}
}
