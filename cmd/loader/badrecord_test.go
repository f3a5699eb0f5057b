package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// A badFile is a file of which one record is bad, deep in it.
type badFile struct {
	path  string
	lines []string
	gzip  bool
}

const badLine = 4500 // counted from 1, behind the header

func newBadFile(t *testing.T, compressed bool) *badFile {
	t.Helper()
	f := &badFile{path: filepath.Join(t.TempDir(), "in.csv"), lines: []string{"id,v"}, gzip: compressed}
	for i := 1; i <= 5000; i++ {
		f.lines = append(f.lines, fmt.Sprintf("%d,text %d", i, i))
	}
	f.lines[badLine] = "x" + f.lines[badLine]
	f.write(t)
	return f
}

func (f *badFile) write(t *testing.T) {
	t.Helper()
	text := []byte(strings.Join(f.lines, "\n") + "\n")
	if f.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(text)
		w.Close()
		text = b.Bytes()
	}
	if err := os.WriteFile(f.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// load begins to load the file into a new table, which ends at the bad record, and returns what
// the command says and the load's id.
func (f *badFile) load(t *testing.T, url string, args ...string) (said, id string) {
	t.Helper()
	loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
	said = runTo(t, exitData, command(url, append([]string{"csv", f.path, "--table", "t", "--chunk", "100", "--workers", "2", "--via", "insert"}, args...)...))
	if !strings.Contains(said, fmt.Sprintf("in.csv:%d: ", badLine+1)) {
		t.Fatalf("it does not name the line: %s", said)
	}
	m := regexp.MustCompile(`loads resume (\w+)`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("it names no way on: %s", said)
	}
	n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t")
	if n == 0 || n >= 5000 {
		t.Fatalf("%d rows are in", n)
	}
	return said, m[1]
}

// check fails the test unless the table holds the file's records, but for the bad ones.
func (f *badFile) check(t *testing.T, url string) {
	t.Helper()
	want := map[string]bool{}
	for _, line := range f.lines[1:] {
		if !strings.HasPrefix(line, "x") {
			want[line] = true
		}
	}
	got := loadertest.Value[string](t, url, "SELECT COALESCE(string_agg(id::TEXT || ',' || v, chr(10)), '') FROM t")
	for line := range strings.SplitSeq(got, "\n") {
		if !want[line] {
			t.Errorf("the table has %q, which is not in the file", line)
		}
		delete(want, line)
	}
	for line := range want {
		t.Errorf("the table lacks %q", line)
	}
}

// TestBadRecordDeepInAFile: there are three ways on, and each leads to the end: the record is
// set aside, it is mended, or the load is given up with its rows.
func TestBadRecordDeepInAFile(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, compressed := range []bool{false, true} {
			if compressed && !loadertest.Chaos {
				continue
			}
			f := newBadFile(t, compressed)
			// 1. The hint, as it stands. A new load says first that there is an unfinished one.
			said, id := f.load(t, url)
			hint := regexp.MustCompile(`(?m)^(?:go on|resume) with: (.*?)( --url … \(the same as before\))?$`).FindStringSubmatch(said)
			if hint == nil || !strings.Contains(hint[1], "--max-errors") {
				t.Fatalf("nothing says how to go on: %s", said)
			}
			if out := runTo(t, exitUsage, command(url, "csv", f.path, "--table", "t")); !strings.Contains(out, "load "+id+" of "+filepath.Base(f.path)+" into public.t is unfinished and has loaded rows; resume it with: ") {
				t.Errorf("a new load says %s", out)
			}
			p := newPlace(t)
			runTo(t, exitRejected, p.command(url, "sh", "-c", hint[1]))
			f.check(t, url)
			runTo(t, exitRejected, command(url, "loads", "resume", id, "--rejects", filepath.Join(p.dir, "again"))) // says it again

			// 2. The mended file: the record is longer than it was, and lines beside it are new.
			_, id = f.load(t, url)
			f.lines[badLine] = fmt.Sprintf("%d,a mended text", badLine)
			f.lines = append(f.lines[:badLine+1], append([]string{"9001,new"}, f.lines[badLine+1:]...)...)
			f.write(t)
			runTo(t, exitOK, command(url, "loads", "resume", id))
			f.check(t, url)
			if out := runTo(t, exitOK, command(url, "loads", "verify", id)); !strings.Contains(out, "5001 of 5001 rows match the input") {
				t.Errorf("verify says %s", out)
			}

			// 3. A file in which what is in was changed is refused, with its lines.
			f = newBadFile(t, compressed)
			_, id = f.load(t, url)
			was := f.lines[50]
			f.lines[50] = "50,tixt 50"
			f.lines[badLine] = f.lines[badLine][1:]
			f.write(t)
			if out := runTo(t, exitRefused, command(url, "loads", "resume", id)); !regexp.MustCompile(`in\.csv: the file has changed since the load began: the loaded lines 2 to \d+ are missing or changed`).MatchString(out) {
				t.Errorf("a changed file is refused with %s", out)
			}
			f.lines[50] = was
			f.write(t)
			runTo(t, exitOK, command(url, "loads", "resume", id))
			f.check(t, url)

			// 4. All the same, a new load.
			f = newBadFile(t, compressed)
			f.load(t, url)
			loadertest.Exec(t, url, "DELETE FROM t")
			f.lines[badLine] = f.lines[badLine][1:]
			f.write(t)
			runTo(t, exitOK, command(url, "csv", f.path, "--table", "t", "--again"))
			f.check(t, url)
		}
	})
}

// TestRowsGoWithTheirLoad gives a load up with its rows: those that were changed since stay, and
// rows of others do. What would take more with it is refused, and nothing is changed.
func TestRowsGoWithTheirLoad(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		f := newBadFile(t, false)
		_, id := f.load(t, url)
		in := loadertest.Value[int64](t, url, "SELECT count(*) FROM t")
		loadertest.Exec(t, url, "INSERT INTO t VALUES (9999, 'of others')", "UPDATE t SET v = 'changed' WHERE id = 1", "DELETE FROM t WHERE id = 2",
			"CREATE TABLE child (id INT8 PRIMARY KEY REFERENCES t (id) ON DELETE CASCADE)")
		said := runTo(t, exitRefused, command(url, "loads", "cancel", id, "--remove-rows"))
		if !strings.Contains(said, "foreign key") || !strings.Contains(said, "nothing was changed") || loads(t, url)[0].State != "loading" {
			t.Errorf("a foreign key that cascades: it says %s", said)
		}
		loadertest.Exec(t, url, "DROP TABLE child")
		if !s.Cockroach {
			loadertest.Exec(t, url, `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$`, "CREATE TRIGGER gone BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()")
			if said := runTo(t, exitRefused, command(url, "loads", "cancel", id, "--remove-rows")); !strings.Contains(said, "the trigger gone acts when a row is deleted") {
				t.Errorf("a trigger: it says %s", said)
			}
			loadertest.Exec(t, url, "DROP TRIGGER gone ON t")
		}
		said = runTo(t, exitOK, command(url, "loads", "cancel", id, "--remove-rows"))
		if want := fmt.Sprintf("removed %d rows from public.t; kept 1 changed row; 1 were gone already", in-2); !strings.Contains(said, want) {
			t.Errorf("it says %s, want %q", said, want)
		}
		if got := loadertest.Value[string](t, url, "SELECT string_agg(v, ' ' ORDER BY id) FROM t"); got != "changed of others" {
			t.Errorf("the table has %q", got)
		}
		// Again, as after a kill, it finds nothing more.
		if said = runTo(t, exitOK, command(url, "loads", "cancel", id, "--remove-rows")); !strings.Contains(said, "removed 0 rows") {
			t.Errorf("again it says %s", said)
		}
		loadertest.Exec(t, url, "DELETE FROM t")
		f.lines[badLine] = f.lines[badLine][1:]
		f.write(t)
		runTo(t, exitOK, command(url, "csv", f.path, "--table", "t"))
		f.check(t, url)
		if said = runTo(t, exitRefused, command(url, "loads", "cancel", loads(t, url)[0].ID, "--remove-rows")); !strings.Contains(said, "it is complete") {
			t.Errorf("of a complete load it says %s", said)
		}
	})
}
