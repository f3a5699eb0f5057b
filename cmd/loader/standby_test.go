//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestStandby: what writes is refused by a standby, before the first row, with the primary's
// name; what only reads works there; and the primary takes what the standby has refused.
func TestStandby(t *testing.T) {
	loadertest.Slow(t)
	primary, db := loadertest.OwnServer(t, server.PostgreSQL)
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"ok.csv": "id,v\n1,a\n2,b\n", "part.csv": "id,v\n3,c\nx,d\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loadertest.Exec(t, primary.URL(), "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)", "CREATE ROLE plain LOGIN PASSWORD 'p'", "CREATE DATABASE empty")
	run := func(url, line string) (int, string) {
		return inProcess(t, append(strings.Fields(line), "--url", url)...)
	}
	for line, want := range map[string]int{"accounts --n 5": exitOK, "csv part.csv --table t --chunk 1 --workers 1 --order file": exitData} {
		if code, said := run(primary.URL(), line); code != want {
			t.Fatalf("%s: exit code %d, want %d: %s", line, code, want, said)
		}
	}
	done := loadertest.Value[string](t, primary.URL(), "SELECT id FROM loader.loads WHERE what = 'accounts'")
	part := loadertest.Value[string](t, primary.URL(), "SELECT id FROM loader.loads WHERE what = 'csv'")
	// A table is counted wherever a load without a database in the URL has put it.
	none := strings.Replace(primary.URL(), "/postgres?", "/?", 1)
	for _, line := range []string{"csv ok.csv --table there --create-table", "count --table there"} {
		if code, said := run(none, line); code != exitOK {
			t.Errorf("%s: exit code %d: %s", line, code, said)
		}
	}
	if code, said := run(none, "count --table nowhere"); code != exitTarget || !strings.Contains(said, "table nowhere is in none of the databases pointstore, bank, files") {
		t.Errorf("exit code %d: %s", code, said)
	}
	standby := loadertest.Standby(t, db)
	named := fmt.Sprintf("\nthe session is read-only: the server is a standby of %s; name that server, or several hosts with target_session_attrs=read-write\n",
		strings.SplitN(strings.SplitN(primary.URL(), "@", 2)[1], "/", 2)[0])
	elsewhere := strings.Replace(standby, "/postgres?", "/empty?", 1)
	writes := []string{
		"points --n 10", "csv ok.csv --table t", "csv ok.csv --table t --no-registry", "csv ok.csv --table new --create-table", "points --n 10 --indexes defer",
		"loads resume " + part + " --max-errors 1", "loads cancel " + part, "loads cancel " + part + " --remove-rows", "loads forget " + done, "transfer", "init --database shop",
		"bench --chunks 10 --count 1 --via insert",
	}
	for _, url := range []string{standby, elsewhere} {
		for _, line := range writes {
			if url == elsewhere && !strings.HasPrefix(line, "points") {
				continue
			}
			code, said := run(url, line)
			if code != exitTarget || !strings.Contains(said, named) || strings.Contains(said, "resume with") {
				t.Errorf("%s: exit code %d, want %d: %s, want %q", line, code, exitTarget, said, named)
			}
		}
	}
	for _, line := range []string{"count", "loads list", "loads show " + done, "plan points --n 10", "loads verify " + done} {
		if code, said := run(standby, line); code != exitOK {
			t.Errorf("%s: exit code %d: %s", line, code, said)
		}
	}
	// Whom the server tells less, and a session that is told to read only.
	plain := strings.Replace(standby, standby[strings.Index(standby, "//")+2:strings.Index(standby, "@")], "plain:p", 1)
	if code, said := run(plain, "points --n 10"); code != exitTarget || !strings.Contains(said, "the server is a standby; name its primary") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if code, said := run(primary.URL()+"&options=-c%20default_transaction_read_only%3Don", "points --n 10"); code != exitTarget || !strings.Contains(said, "the session is read-only: default_transaction_read_only is on") {
		t.Errorf("exit code %d: %s", code, said)
	}
	// The first of several hosts that writes.
	at := func(url string) string { return strings.SplitN(strings.SplitN(url, "@", 2)[1], "/", 2)[0] }
	both := strings.Replace(standby, at(standby), at(standby)+","+at(primary.URL()), 1) + "&target_session_attrs=read-write"
	for _, line := range []string{"csv ok.csv --table t --again", "loads resume " + part + " --max-errors 1"} {
		if code, said := run(both, line); code != exitOK && code != exitRejected {
			t.Errorf("%s at both hosts: exit code %d: %s", line, code, said)
		}
	}
	if n := loadertest.Value[int64](t, primary.URL(), "SELECT count(*) FROM t"); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}
