package load_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// forgetful starts a server of PostgreSQL whose log is flushed by commits alone, so that a
// crash takes whatever was confirmed before it was flushed.
func forgetful(t *testing.T) loadertest.Server {
	t.Helper()
	srv, _ := loadertest.OwnServer(t, server.PostgreSQL)
	url := srv.NewDatabase(t)
	loadertest.Exec(t, url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "ALTER SYSTEM SET wal_writer_flush_after = '1GB'", "SELECT pg_reload_conf()")
	return srv
}

// confirmEarly has the transactions that write to a table commit before they are on disk,
// whatever their session says.
func confirmEarly(t *testing.T, url, table string) {
	t.Helper()
	loadertest.Exec(t, url,
		`CREATE OR REPLACE FUNCTION early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('synchronous_commit', 'off', true); RETURN NULL; END $$`,
		fmt.Sprintf(`CREATE TRIGGER early BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION early()`, table))
}

// crashAt crashes the server of url when so many rows are confirmed, and, with unflushed,
// the last of them are not on disk.
func crashAt(t *testing.T, url string, rows int64, unflushed bool) func(loader.Event) {
	crashed := false
	return func(e loader.Event) {
		rows -= e.Span.Rows
		if rows > 0 || crashed || unflushed && !loadertest.Value[bool](t, url, "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > 4096") {
			return
		}
		crashed = true
		loadertest.CrashBackend(t, url)
	}
}

// makeTable makes the table of a subject, so that it can be changed before the load.
func (s subject) makeTable(t *testing.T, url string) {
	t.Helper()
	loadertest.Exec(t, url, "DROP TABLE IF EXISTS "+s.table, s.ddl)
}

// TestServerLosesWhatItConfirmed crashes a server in a load, which takes chunks that it had
// confirmed, and their ledger rows with them. The run loads them again and counts each row
// once.
func TestServerLosesWhatItConfirmed(t *testing.T) {
	srv := forgetful(t)
	list := subjects(srv)
	if !loadertest.Chaos {
		list = few(list)
	}
	// A file is not loaded by statement into a table with a trigger.
	list = slices.DeleteFunc(list, func(s subject) bool { return s.kind == "file" })
	for _, sub := range list {
		t.Run(sub.String(), func(t *testing.T) {
			url := srv.NewDatabase(t)
			// What is flushed just before the crash is not lost.
			var gone int64
			for try := 0; gone == 0 && try < 5 && !t.Failed(); try++ {
				gone = sub.crash(t, url)
			}
			if gone == 0 {
				t.Error("the crash took 0 rows")
			}
		})
	}
}

// crash loads rows into a table, of which a crash takes what was confirmed last, checks that
// each is there once, and returns how many rows the crash took.
func (s subject) crash(t *testing.T, url string) int64 {
	t.Helper()
	clearTables(t, url)
	s.makeTable(t, url)
	confirmEarly(t, url, s.table)
	const n = 20_000
	var notes []string
	crash := crashAt(t, url, n/4, true)
	s.Workers = 1
	s.Observe = func(e loader.Event) {
		crash(e)
		if e.Note != "" {
			notes = append(notes, e.Note)
		}
	}
	x := s.startDirect(t, url, n)
	res, err := x.wait()
	if err != nil {
		t.Fatal(err)
	}
	if told := strings.Contains(strings.Join(notes, "\n"), "a crash of the server lost"); told != (res.Gone > 0) {
		t.Errorf("the crash took %d rows, by the result; notes: %q", res.Gone, notes)
	}
	if res.Rows != n || x.Dataset.Facts().Unit == "rows" && res.Positions != n {
		t.Errorf("the result counts %d rows of %d, of %d positions", res.Rows, n, res.Positions)
	}
	s.exact(t, url, x.Load, n)
	return res.Gone
}

// TestCrashEmptiesAnUnloggedTable crashes a server in a load into a table that does not
// survive that. It ends unconfirmed, and is not resumed.
func TestCrashEmptiesAnUnloggedTable(t *testing.T) {
	srv, _ := loadertest.OwnServer(t, server.PostgreSQL)
	list := subjects(srv)
	if !loadertest.Chaos {
		list = few(list)
	}
	for _, sub := range list {
		t.Run(sub.String(), func(t *testing.T) {
			url := srv.NewDatabase(t)
			sub.makeTable(t, url)
			loadertest.Exec(t, url, "ALTER TABLE "+sub.table+" SET UNLOGGED")
			const n = 20_000
			sub.Observe = crashAt(t, url, n/2, false)
			x := sub.startDirect(t, url, n)
			if notes := strings.Join(x.Notes, "\n"); !strings.Contains(notes, sub.table+" is UNLOGGED") {
				t.Errorf("the notes before the first row are %q", notes)
			}
			_, err := x.wait()
			if !errors.Is(err, loader.ErrUnconfirmed) || !errors.Is(err, load.ErrTable) || !strings.Contains(err.Error(), "emptied") {
				t.Errorf("got %v, want the table emptied", err)
			}
			_, err = load.Resume(context.Background(), loadertest.Open(t, url), x.ID, load.Settings{Input: files.NewInput(nil)})
			checkRefused(t, err, "emptied")
		})
	}
}

// TestCrashEmptiesAnUnloggedTableWithoutARecord is the same where no registry has a marker.
func TestCrashEmptiesAnUnloggedTableWithoutARecord(t *testing.T) {
	srv, _ := loadertest.OwnServer(t, server.PostgreSQL)
	url := srv.NewDatabase(t)
	loadertest.Exec(t, url, pointsDDL, "ALTER TABLE points SET UNLOGGED")
	l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(20_000, 7), NoRegistry: true, Settings: load.Settings{
		Chunk: 100, RetryFor: time.Minute, Method: commit.Copy, Observe: crashAt(t, url, 10_000, false)}})
	if _, err := l.Run(context.Background()); !errors.Is(err, loader.ErrUnconfirmed) {
		t.Errorf("got %v, want it unconfirmed", err)
	}
}

// TestLostRowsThatCannotBeReadAgain crashes a server that loses rows of standard input.
func TestLostRowsThatCannotBeReadAgain(t *testing.T) {
	srv := forgetful(t)
	const n = 20_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%d,a\n", i)
	}
	// What is flushed just before the crash is not lost: then the load is complete.
	for range 5 {
		url := srv.NewDatabase(t)
		loadertest.Exec(t, url, keylessDDL)
		confirmEarly(t, url, "points")
		req := fileRequest("points", files.Stdin)
		filesOf(req).Input, filesOf(req).Columns = files.NewInput(strings.NewReader(text.String())), []string{"id", "s"}
		req.Settings = load.Settings{Chunk: 100, RetryFor: time.Minute, Observe: crashAt(t, url, n/4, true)}
		l := newLoad(t, url, req)
		res, err := l.Run(context.Background())
		if err == nil && res.Rows == n && loadertest.Value[int64](t, url, "SELECT count(*) FROM points") == n {
			continue
		}
		if !errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), "cannot be read") || res.Rows >= n {
			t.Errorf("got %d rows, %v; want fewer, and that they cannot be read again", res.Rows, err)
		}
		return
	}
	t.Error("no crash took rows")
}

// checkRefused fails the test unless a resume was refused for what became of the table.
func checkRefused(t *testing.T, err error, why string) {
	t.Helper()
	if !errors.Is(err, load.ErrTable) || errors.Is(err, loader.ErrUnconfirmed) || !regexp.MustCompile(why).MatchString(err.Error()) || !strings.Contains(err.Error(), "loads forget") {
		t.Errorf("got %v, want a refusal that says %q and the way on", err, why)
	}
}
