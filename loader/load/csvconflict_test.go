package load_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// versions returns records with so many versions of so many keys, one version after the
// other.
func versions(keys, versions int) string {
	var b strings.Builder
	for v := range versions {
		for k := range keys {
			fmt.Fprintf(&b, "%d,%d\n", k, v)
		}
	}
	return b.String()
}

// conflicts returns a request for a file of versions into table kv.
func conflicts(t testing.TB, conflict commit.Conflict, text string, set load.Settings) load.Request {
	req := fileRequest("kv", write(t, "x.csv", text))
	req.Settings, filesOf(req).Columns, filesOf(req).Conflict = set, []string{"k", "v"}, conflict
	return req
}

const kvDDL = "CREATE TABLE kv (k INT8 PRIMARY KEY, v INT8)"

// checkVersion fails the test unless each of the keys has the version.
func checkVersion(t testing.TB, url string, keys, version int) {
	t.Helper()
	got := table(t, url, "SELECT v::TEXT, count(*)::TEXT FROM kv GROUP BY v")
	if want := fmt.Sprintf("%q|%q|", fmt.Sprint(version), fmt.Sprint(keys)); !slices.Equal(got, []string{want}) {
		t.Errorf("versions and their keys are %v, want %s", got, want)
	}
}

// TestOrderOfConflicts holds that the last record of a key takes the place of the others,
// and the first keeps it, whatever the chunks and the workers.
func TestOrderOfConflicts(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		const keys, number = 50, 40
		url := s.NewDatabase(t)
		text := versions(keys, number)
		for _, set := range []load.Settings{{Chunk: 20, Workers: 4}, {Chunk: 77, Workers: 3, InOrder: true}, {Chunk: 1500}, {}} {
			for conflict, want := range map[commit.Conflict]int{commit.UpdateRow: number - 1, commit.SkipRow: 0} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
				l := newLoad(t, url, conflicts(t, conflict, text, set))
				res, err := l.Run(context.Background())
				if err != nil || res.Rows != keys*number || res.Conflicts != keys*(number-1) {
					t.Errorf("%s, chunks of %d: %+v, %v, want %d conflicts", conflict, set.Chunk, res, err, keys*(number-1))
				}
				checkVersion(t, url, keys, want)
				if told := strings.Contains(strings.Join(l.Notes, "\n"), "one worker, not"); told != (set.Workers > 1) {
					t.Errorf("%s, %d workers: the notes are %q", conflict, set.Workers, l.Notes)
				}
			}
		}
	})
}

// TestKeysThatAreEqual has the keys of a chunk written in other ways: what is one key is the
// server's to say, of what the column keeps.
func TestKeysThatAreEqual(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		typesOf(t, s, url)
		for _, f := range []struct{ postgres, cockroach, a, b string }{
			{"INT8", "INT8", "7", "007"},
			{"NUMERIC(6,2)", "DECIMAL(6,2)", "1.501", "1.499"},
			{"DOUBLE PRECISION", "FLOAT8", "0", "-0"},
			{"UUID", "UUID", "123e4567-e89b-12d3-a456-426614174000", "{123E4567E89B12D3A456426614174000}"},
			{"VARCHAR(3)", "", "ab", "ab"}, {"CHAR(5)", "CHAR(5)", "ab", "ab   "},
			{"CITEXT", "", "Key", "KEY"}, {"TEXT COLLATE nocase", "", "Key", "KEY"}, {"short", "", "ab", "ab"},
			{"TIMESTAMP(0)", "TIMESTAMP(0)", "2020-01-02 03:04:05", "2020-01-02 03:04:05.2"},
		} {
			typ := f.postgres
			if s.Product == server.CockroachDB {
				typ = f.cockroach
			}
			if typ == "" {
				continue
			}
			for conflict, want := range map[commit.Conflict]int{commit.UpdateRow: 2, commit.SkipRow: 0} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", "CREATE TABLE kv (k "+typ+" PRIMARY KEY, v INT8)")
				text := fmt.Sprintf("%s,0\n%s,1\n%s,2\n", f.a, f.b, f.b)
				res, err := newLoad(t, url, conflicts(t, conflict, text, load.Settings{})).Run(context.Background())
				if err != nil || res.Rows != 3 || res.Conflicts != 2 {
					t.Errorf("%s %s: %+v, %v, want 2 conflicts", typ, conflict, res, err)
					continue
				}
				checkVersion(t, url, 1, want)
			}
		}
	})
}

// TestOneRunAtATime holds the first run of a load in its first chunk. Another one waits,
// says so, and goes on behind it; so does one that follows a run that was stopped.
func TestOneRunAtATime(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		const keys, number = 40, 30
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, kvDDL)
		stop, held, free := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var chunks int
		set := load.Settings{Chunk: 30, Workers: 2, Stop: stop, Observe: func(e loader.Event) {
			if e.Span.Rows == 0 {
				return
			}
			if chunks++; chunks == 3 {
				close(stop)
				close(held)
				<-free
			}
		}}
		l := newLoad(t, url, conflicts(t, commit.UpdateRow, versions(keys, number), set))
		inSmallClaims(l)
		first := make(chan error, 1)
		go func() { _, err := l.Run(context.Background()); first <- err }()
		<-held
		waits, ended := make(chan string, 1), make(chan struct{})
		again := load.Settings{Chunk: 17, Workers: 3, Input: files.NewInput(nil), Note: func(n string) {
			select {
			case waits <- n:
			default:
			}
		}, Observe: func(loader.Event) {
			select {
			case <-ended:
			default:
				t.Error("the second run commits beside the first")
			}
		}}
		second, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, again)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		inSmallClaims(second)
		result := make(chan error, 1)
		go func() { _, err := second.Run(context.Background()); result <- err }()
		select {
		case n := <-waits:
			if !strings.Contains(n, "waiting for another run of this load") {
				t.Errorf("the second run says %q", n)
			}
		case err := <-result:
			t.Errorf("the second run has ended: %v", err)
		case <-time.After(time.Minute):
			t.Error("the second run does not say that it waits")
		}
		close(ended)
		close(free)
		if err := <-first; !errors.Is(err, loader.ErrStopped) {
			t.Errorf("the first run: %v, want it stopped", err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		checkVersion(t, url, keys, number-1)
		checkSettled(t, url, l)
	})
}

// TestLoadsThatBeganOutOfOrder refuses to go on with a load of an older version, which
// committed its chunks in any order.
func TestLoadsThatBeganOutOfOrder(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, conflict := range []commit.Conflict{commit.UpdateRow, commit.SkipRow} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
			l := newLoad(t, url, conflicts(t, conflict, versions(10, 10), load.Settings{Chunk: 10}))
			loadertest.Exec(t, url, fmt.Sprintf("UPDATE loader.loads SET done = '0-40,80-120' WHERE id = '%s'", l.ID))
			again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			res, err := again.Run(context.Background())
			var refused *load.ResumeError
			if !errors.As(err, &refused) || res.Rows != 0 || !strings.Contains(err.Error(), "loads cancel "+l.ID) {
				t.Errorf("%s: %d rows, %v; want it refused", conflict, res.Rows, err)
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM kv"); n != 0 {
				t.Errorf("%s: %d rows were written", conflict, n)
			}
		}
	})
}

// TestConflictsOfTablesThatAreAllKey loads the same file twice: nothing is left to update.
// TestConflictsOfAnIdentity does so where the key is GENERATED ALWAYS.
func TestConflictsOfTablesThatAreAllKey(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE kv (k INT8, v INT8, PRIMARY KEY (k, v))")
		for _, want := range []int64{1, 3} {
			res, err := newLoad(t, url, conflicts(t, commit.UpdateRow, "1,2\n1,3\n1,3\n", load.Settings{})).Run(context.Background())
			if err != nil || res.Rows != 3 || res.Conflicts != want {
				t.Errorf("%+v, %v, want %d conflicts", res, err, want)
			}
		}
	})
}

func TestConflictsOfAnIdentity(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE kv (k INT8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v INT8)")
	for i, conflict := range []commit.Conflict{commit.SkipRow, commit.SkipRow, commit.UpdateRow} {
		res, err := newLoad(t, url, conflicts(t, conflict, "1,2\n2,3\n", load.Settings{})).Run(context.Background())
		if err != nil || res.Conflicts != int64(min(2*i, 2)) {
			t.Errorf("%s: %+v, %v", conflict, res, err)
		}
	}
}

func TestConflicts(t *testing.T) {
	text := "id,s\n1,new\n2,new\n3,new\n3,newer\n"
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		for _, c := range []struct {
			conflict  commit.Conflict
			want      []string
			conflicts int64
		}{
			{commit.SkipRow, []string{`"1"|"old"|`, `"2"|"new"|`, `"3"|"new"|`}, 2},
			{commit.UpdateRow, []string{`"1"|"new"|`, `"2"|"new"|`, `"3"|"newer"|`}, 2},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)", "INSERT INTO t VALUES (1, 'old')")
			req := fileRequest("t", write(t, "x.csv", text))
			filesOf(req).Conflict = c.conflict
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if err != nil || res.Conflicts != c.conflicts {
				t.Errorf("%s: %d conflicts, %v; want %d", c.conflict, res.Conflicts, err, c.conflicts)
			}
			checkRows(t, table(t, url, "SELECT id::TEXT, s FROM t"), c.want)
		}
	})
}
