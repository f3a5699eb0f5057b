package main

import (
	"os/exec"
	"regexp"
	"testing"

	"bulkload/loader/loadertest"
)

// TestNoticesAreInNoOutput loads into tables whose DDL brings notices of the server: of jobs
// that are waited for, and of the delay of garbage collection.
func TestNoticesAreInNoOutput(t *testing.T) {
	loadertest.Slow(t)
	url := loadertest.NewestCockroachServer(t).NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)", "CREATE INDEX by_x ON t (x)", "CREATE UNIQUE INDEX by_yz ON t (y, z)")
	notices := regexp.MustCompile(`(?i)notice|waiting for job|reclamation|jobs will continue`)
	for _, args := range [][]string{
		{"points", "--n", "1000", "--table", "t", "--indexes", "defer", "--verbose"},
		{"points", "--n", "1000", "--table", "made", "--verbose"},
		{"points", "--n", "1000", "--table", "imported", "--via", "import", "--handoff", "serve", "--verbose"},
		{"loads", "list"},
	} {
		cmd := exec.Command(mustLookPath("loader"), append(args, "--url", url)...)
		if out := runTo(t, exitOK, cmd); notices.MatchString(out) {
			t.Errorf("%q: %s", args, out)
		}
	}
}
