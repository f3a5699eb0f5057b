package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"bulkload/loader"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// indexed makes a table of points with secondary indexes and returns their statements,
// sorted.
func indexed(t *testing.T, url string) []string {
	t.Helper()
	loadertest.Exec(t, url,
		"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)",
		"CREATE INDEX by_x ON points (x DESC)", "CREATE UNIQUE INDEX by_yz ON points (y, z)", "CREATE INDEX high ON points (z) WHERE z > 512")
	return indexes(t, url)
}

func indexes(t *testing.T, url string) []string {
	t.Helper()
	conn, err := open(t, url).Pool(context.Background(), server.Sessions{Name: "test", Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id, _ := server.ParseTable("points")
	table, err := server.Describe(context.Background(), conn, open(t, url).Info, id)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, x := range table.Indexes {
		if !x.Primary {
			list = append(list, x.Create)
		}
	}
	slices.Sort(list)
	return list
}

func checkIndexes(t *testing.T, url string, want []string) {
	t.Helper()
	if got := indexes(t, url); !slices.Equal(got, want) {
		t.Errorf("got indexes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDeferredIndexesAreBackAfterTheLoad(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 5000, Settings: load.Settings{Indexes: load.DeferIndexes}})
		checkIndexes(t, url, nil)
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
		checkExact(t, url, l, 5000)

		_, err := load.New(context.Background(), open(t, url), load.Request{What: load.Points, Rows: 10, Settings: load.Settings{Indexes: load.DeferIndexes}})
		var table *load.TableError
		if !errors.As(err, &table) || !strings.Contains(err.Error(), "has rows") {
			t.Errorf("deferring the indexes of a table with rows: got %v", err)
		}
		checkIndexes(t, url, want)
	})
}

func TestDeferredIndexesAreBackAfterAStop(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		stop := make(chan struct{})
		var once sync.Once
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 5000, Settings: load.Settings{
			Indexes: load.DeferIndexes, Chunk: 100, Stop: stop, Observe: func(loader.Event) { once.Do(func() { close(stop) }) },
		}})
		if _, err := l.Run(context.Background()); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("got %v, want ErrStopped", err)
		}
		checkIndexes(t, url, nil)
		again, err := load.Resume(context.Background(), open(t, url), l.ID, load.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
		checkExact(t, url, l, 5000)
	})
}

// TestUniqueIndexThatFailsNamesTheDuplicates loads accounts whose balances collide.
func TestUniqueIndexThatFailsNamesTheDuplicates(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", "CREATE UNIQUE INDEX once ON accounts (balance)")
		l := newLoad(t, url, load.Request{What: load.Accounts, Rows: 20_000, Seed: 5, Settings: load.Settings{Indexes: load.DeferIndexes}})
		_, err := l.Run(context.Background())
		var index *load.IndexError
		if !errors.As(err, &index) || index.Name != "once" || len(index.Duplicates) == 0 || server.Classify(err) != server.Duplicate {
			t.Fatalf("got %v, want the index and its duplicates", err)
		}
		t.Log(err)
		// With the duplicates gone, resuming makes the index.
		loadertest.Exec(t, url, "DELETE FROM accounts WHERE balance IN (SELECT balance FROM accounts GROUP BY balance HAVING count(*) > 1)")
		again, err := load.Resume(context.Background(), open(t, url), l.ID, load.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPreviewWritesNothing(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		const all = "SELECT count(*) FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog', 'crdb_internal', 'pg_extension')"
		before := loadertest.Value[int64](t, url, all)
		p, err := load.NewPreview(context.Background(), open(t, url), load.Request{What: load.Points, Rows: 10_000}, "")
		if err != nil {
			t.Fatal(err)
		}
		if p.Create == "" || p.RowsPerChunk == 0 || p.Statement == "" {
			t.Errorf("got %+v", p)
		}
		indexed(t, url)
		p, err = load.NewPreview(context.Background(), open(t, url), load.Request{What: load.Points, Rows: 10_000}, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Indexes) != 4 || p.Indexes[1].WithoutRows == 0 || p.Create != "" {
			t.Errorf("got %+v", p)
		}
		if after := loadertest.Value[int64](t, url, all); after != before+1 {
			t.Errorf("%d tables, want the test's own beside %d", after, before)
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestTheNextLoadBeginsWhereThisOneSettled has the server refuse large chunks, once.
func TestTheNextLoadBeginsWhereThisOneSettled(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		proxy := loadertest.NewProxy(t, url)
		l := newLoad(t, proxy.URL(), load.Request{What: load.Points, Rows: 50_000})
		proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `(INSERT INTO|COPY) .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "53400"})
		first, err := l.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if first.RowsPerChunk >= l.Plan.RowsPerChunk {
			t.Fatalf("ended with chunks of %d rows, planned %d", first.RowsPerChunk, l.Plan.RowsPerChunk)
		}
		next := newLoad(t, url, load.Request{What: load.Points, Rows: 50_000})
		if next.Plan.RowsPerChunk != first.RowsPerChunk {
			t.Errorf("the next load plans chunks of %d rows, want %d", next.Plan.RowsPerChunk, first.RowsPerChunk)
		}
		named := newLoad(t, url, load.Request{What: load.Points, Rows: 50_000, Settings: load.Settings{Chunk: 700}})
		if named.Plan.RowsPerChunk != 700 {
			t.Errorf("a load with --chunk 700 plans chunks of %d rows", named.Plan.RowsPerChunk)
		}
	})
}
