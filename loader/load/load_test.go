package load_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// newLoad opens a load and closes it with the test.
func newLoad(t testing.TB, url string, req load.Request) *load.Load {
	t.Helper()
	l, err := load.New(context.Background(), loadertest.Open(t, url), req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// ways are the combinations of commit mode and method that each server has.
func ways(s loadertest.Server) []load.Settings {
	list := []load.Settings{
		{CommitMode: commit.Statement, Method: commit.Insert},
		{CommitMode: commit.Transaction, Method: commit.Insert},
		{CommitMode: commit.Transaction, Method: commit.Copy},
	}
	if s.Product == server.PostgreSQL {
		list = append(list, load.Settings{CommitMode: commit.Statement, Method: commit.Copy})
	}
	return list
}

// usual are those of ways that each server is loaded with by default.
func usual(s loadertest.Server) []load.Settings {
	if s.Product == server.PostgreSQL {
		return []load.Settings{{CommitMode: commit.Transaction, Method: commit.Copy}}
	}
	return []load.Settings{{CommitMode: commit.Statement, Method: commit.Insert}}
}

func name(s load.Settings) string { return string(s.CommitMode) + "/" + string(s.Method) }

func TestPointsAreExactByEveryWay(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for _, set := range ways(s) {
			t.Run(name(set), func(t *testing.T) {
				url := s.NewDatabase(t)
				set.Chunk, set.Workers = 700, 3
				l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(10_001, 42), Settings: set})
				res, err := l.Run(context.Background())
				if err != nil || res.Rows != 10_001 {
					t.Fatalf("got %d rows, %v", res.Rows, err)
				}
				checkExact(t, url, l, 10_001)
			})
		}
	})
}

func TestTheSameSeedTwiceAddsTwice(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		var before []*load.Load
		for i := range int64(2) {
			l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(3000, 42)})
			if _, err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			checkExact(t, url, l, 3000*(i+1), before...)
			before = append(before, l)
		}
		distinct := loadertest.Value[int64](t, url, "SELECT count(DISTINCT x) FROM points")
		if distinct != 3000 {
			t.Errorf("%d distinct x of two loads of 3000 rows with one seed, want 3000", distinct)
		}
	})
}

func TestAccountsPassByForeignRows(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		first := newLoad(t, url, load.Request{Dataset: dataset.NewAccounts(5000, 1)})
		if _, err := first.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkExact(t, url, first, 5000)
		// The same seed: every id of the second load is another's.
		second := newLoad(t, url, load.Request{Dataset: dataset.NewAccounts(5000, 1), Settings: load.Settings{Chunk: 900}})
		if _, err := second.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkExact(t, url, second, 10_000, first)
		checkExact(t, url, first, 10_000, second)
	})
}

func TestVerifyFindsATamperedRow(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, tamper := range []string{
			"UPDATE points SET y = y + 1 WHERE id = (SELECT min(id) + 77 FROM points)",
			"DELETE FROM points WHERE id = (SELECT min(id) + 77 FROM points)",
		} {
			url := s.NewDatabase(t)
			l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(1000, 0)})
			if _, err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			loadertest.Exec(t, url, tamper)
			got, err := l.Verify(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.OK() || got.First != 77 || got.Want == got.Got {
				t.Errorf("after %s: got %+v, want row 77 found", tamper, got)
			}
		}
	})
}

func TestTablesThatDoNotFit(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, test := range []struct{ ddl, want string }{
			{"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8, y FLOAT8)", "column z is missing"},
			{"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8, y FLOAT8, z TEXT)", "column z is text"},
			{"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8, y FLOAT8, z FLOAT8, w INT8 NOT NULL)", "column w is NOT NULL"},
			{"CREATE TABLE points (id INT8, x FLOAT8 PRIMARY KEY, y FLOAT8, z FLOAT8)", "the primary key is (x)"},
			{"CREATE VIEW points AS SELECT 1 AS id", "is a view"},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, test.ddl)
			_, err := load.New(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(10, 0)})
			var table *load.TableError
			if !errors.As(err, &table) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", test.ddl, err, test.want)
			}
		}
	})
}

// TestFilesWithoutTheKey has what needs the primary key asked of files that do not bring
// it, or of tables that have none.
func TestFilesWithoutTheKey(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE keyless (a INT8, b TEXT)", "CREATE TABLE other (id SERIAL PRIMARY KEY, a INT8, b TEXT)", "CREATE TABLE two (a INT8, c INT8 DEFAULT 0, b TEXT, PRIMARY KEY (a, c))")
		path := write(t, "x.csv", "a,b\n1,x\n")
		for _, name := range []string{"keyless", "other", "two"} {
			for _, want := range []string{"--commit statement", "--on-conflict skip"} {
				req := fileRequest(name, path)
				if req.CommitMode = commit.Statement; want != "--commit statement" {
					req.CommitMode, filesOf(req).Conflict = "", commit.SkipRow
				}
				_, err := load.New(context.Background(), loadertest.Open(t, url), req)
				var table *load.TableError
				if !errors.As(err, &table) || !strings.HasPrefix(err.Error(), want+" needs the whole primary key of public."+name) {
					t.Errorf("%s: got %v, want %s refused", name, err, want)
				}
			}
		}
	})
}

func TestATableOfTheUsersOwnTypes(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE accounts (balance NUMERIC(12,0), note TEXT, id INT4 PRIMARY KEY)")
	l := newLoad(t, url, load.Request{Dataset: dataset.NewAccounts(2000, 0)})
	if _, err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkExact(t, url, l, 2000)
}

// TestResumeByAnotherMethod resumes a load in chunks by IMPORT: no flag is passed over without
// a word.
func TestResumeByAnotherMethod(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(10, 0)})
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Method: load.Import})
		if failure.Of(err) != failure.Usage || !strings.Contains(err.Error(), "begun in chunks") {
			t.Errorf("got %v, want that the load goes on in chunks", err)
		}
		if err == nil {
			again.Close()
		}
	})
}
