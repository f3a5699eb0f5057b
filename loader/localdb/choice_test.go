//go:build unix

package localdb_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// putCockroach puts a cockroach of a version on PATH that nobody has data of. None of these
// tests starts it.
func putCockroach(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cockroach"), []byte("#!/bin/sh\necho 'Build Tag: v99.1.0'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COCKROACH_BINARY", "")
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// hideCockroach makes PostgreSQL what Find finds.
func hideCockroach(t *testing.T) {
	t.Helper()
	b := binary(t, server.PostgreSQL)
	t.Setenv("COCKROACH_BINARY", "")
	t.Setenv("LOADER_PG_BIN", b.Path)
	t.Setenv("PATH", "/usr/bin:/bin")
}

// TestCockroachAppears: the database that was started first is meant, also where Find
// finds another by now.
func TestCockroachAppears(t *testing.T) {
	hideCockroach(t)
	o := localdb.Options{Dir: openDir(t)}
	first := start(t, o)
	query(t, first.URL, "CREATE TABLE t AS SELECT 'kept'::TEXT AS a")
	if err := first.Retain(true); err != nil {
		t.Fatal(err)
	}
	stop(t, first)
	putCockroach(t)
	if b, err := localdb.Find(); err != nil || b.Product != server.CockroachDB {
		t.Fatalf("found %v, %v; want the CockroachDB", b, err)
	}
	check := func(when string) {
		t.Helper()
		if d, ok := localdb.Meant(o.Dir); !ok || d.Dir != first.Dir {
			t.Errorf("%s: %v is meant (%v), want %s", when, d, ok, first.Dir)
		}
		db, err := localdb.Start(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := query(t, db.URL, "SELECT a FROM t"); got != "kept" {
			t.Errorf("%s: got %q, want kept", when, got)
		}
		stop(t, db)
	}
	check("kept running")
	stopped, err := localdb.StopAll(t.Context(), o.Dir)
	if err != nil || len(stopped) != 1 || stopped[0].Dir != first.Dir || stopped[0].Used {
		t.Errorf("stopped %v, %v; want %s", stopped, err, first.Dir)
	}
	if reachable(first.URL) {
		t.Error("the server still answers")
	}
	if again, err := localdb.StopAll(t.Context(), o.Dir); err != nil || len(again) != 0 {
		t.Errorf("stopped %v, %v; want nothing", again, err)
	}
	check("stopped")
	// As it was with an earlier loader, which wrote no choice down.
	db := start(t, o)
	if err := db.Retain(true); err != nil {
		t.Fatal(err)
	}
	stop(t, db)
	if err := os.Remove(filepath.Join(o.Dir, "choice.json")); err != nil {
		t.Fatal(err)
	}
	check("kept by an earlier loader")
	if gone, err := localdb.RemoveAll(t.Context(), o.Dir); err != nil || !slices.Equal(gone, []string{first.Dir}) || reachable(first.URL) {
		t.Errorf("removed %v, %v; want %s", gone, err, first.Dir)
	}
	if d, ok := localdb.Meant(o.Dir); ok {
		t.Errorf("%v is meant, want nothing", d)
	}
}

// TestStopAllWithTwo has PostgreSQL and CockroachDB running, and stops both.
func TestStopAllWithTwo(t *testing.T) {
	dir := openDir(t)
	var dbs []*localdb.DB
	each(t, func(t *testing.T, b localdb.Binary) {
		db := start(t, localdb.Options{Binary: b, Dir: dir, Choose: true})
		if err := db.Retain(true); err != nil {
			t.Fatal(err)
		}
		stop(t, db)
		if d, ok := localdb.Meant(dir); !ok || d.Dir != db.Dir {
			t.Errorf("%v is meant, want %s, which was chosen", d, db.Dir)
		}
		dbs = append(dbs, db)
	})
	used := start(t, localdb.Options{Dir: dir})
	stopped, err := localdb.StopAll(t.Context(), dir)
	if err != nil || len(stopped) != len(dbs) {
		t.Errorf("stopped %v, %v; want %d", stopped, err, len(dbs))
	}
	for _, db := range dbs {
		if got, want := reachable(db.URL), db.Dir == used.Dir; got != want {
			t.Errorf("%s answers: %v, want %v", db.Binary, got, want)
		}
	}
	for _, s := range stopped {
		if got, want := s.Used, s.Dir == used.Dir; got != want {
			t.Errorf("%v is used: %v, want %v", s.Data, got, want)
		}
	}
	stop(t, used)
	if reachable(used.URL) {
		t.Error("the server still answers after its last user left")
	}
	if gone, err := localdb.RemoveAll(t.Context(), dir); err != nil || len(gone) != len(dbs) {
		t.Errorf("removed %v, %v; want %d", gone, err, len(dbs))
	}
}

// TestServerWithoutItsPrograms has the programs of a running server go, as an upgrade does:
// it is used, and can be stopped.
func TestServerWithoutItsPrograms(t *testing.T) {
	hideCockroach(t)
	o := localdb.Options{Dir: openDir(t)}
	db := start(t, o)
	if err := db.Retain(true); err != nil {
		t.Fatal(err)
	}
	stop(t, db)
	path := filepath.Join(db.Dir, "state.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]string
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	if state["Path"] != db.Path {
		t.Errorf("the state has path %q, want %q", state["Path"], db.Path)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), db.Path, "/nowhere")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOADER_PG_BIN", "/nowhere")
	t.Setenv("LOADER_DOWNLOAD", "no")
	again := start(t, o)
	if again.URL != db.URL {
		t.Errorf("got another server, %s", again.URL)
	}
	stop(t, again)
	if stopped, err := localdb.StopAll(t.Context(), o.Dir); err != nil || len(stopped) != 1 || reachable(db.URL) {
		t.Errorf("stopped %v, %v; want the server", stopped, err)
	}
	// A server of which nothing is written down, after a kill -9 of its command.
	t.Setenv("LOADER_PG_BIN", db.Path)
	db = start(t, o)
	if err := db.Retain(true); err != nil {
		t.Fatal(err)
	}
	stop(t, db)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if stopped, err := localdb.StopAll(t.Context(), o.Dir); err != nil || len(stopped) != 1 || reachable(db.URL) {
		t.Errorf("stopped %v, %v; want the server", stopped, err)
	}
}

// TestMeantIsNotThere has data of a version that no program is found of: another database
// is started, and it is said.
func TestMeantIsNotThere(t *testing.T) {
	hideCockroach(t)
	t.Setenv("LOADER_DOWNLOAD", "no")
	o := localdb.Options{Dir: openDir(t)}
	old := filepath.Join(o.Dir, "cockroach-v20.2")
	if err := os.MkdirAll(filepath.Join(old, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	choice := `{"Name":"cockroach-v20.2","Path":"/nowhere"}`
	if err := os.WriteFile(filepath.Join(o.Dir, "choice.json"), []byte(choice), 0o600); err != nil {
		t.Fatal(err)
	}
	var said string
	o.Report.Line = func(text string) { said += text + "\n" }
	db := start(t, o)
	stop(t, db)
	if db.Product != server.PostgreSQL || !strings.Contains(said, "not using CockroachDB 20.2 in "+old) {
		t.Errorf("got %v, and %q is said", db.Binary, said)
	}
	if d, ok := localdb.Meant(o.Dir); !ok || d.Dir != old {
		t.Errorf("%v is meant, want what was", d)
	}
}
