package load_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
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

// tableIndexes describes the indexes of table points.
func tableIndexes(t *testing.T, url string) []server.TableIndex {
	t.Helper()
	conn, err := loadertest.Open(t, url).Pool(context.Background(), server.Sessions{Name: "test", Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id, _ := server.ParseTable("points")
	table, err := server.Describe(context.Background(), conn, loadertest.Open(t, url).Info, id)
	if err != nil {
		t.Fatal(err)
	}
	return table.Indexes
}

func indexes(t *testing.T, url string) []string {
	t.Helper()
	var list []string
	for _, x := range tableIndexes(t, url) {
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
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		want := indexed(t, url)
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(5000, 0), Indexes: load.DeferIndexes})
		checkIndexes(t, url, nil)
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
		checkExact(t, url, l, 5000)

		_, err := load.New(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(10, 0), Indexes: load.DeferIndexes})
		var table *load.TableError
		if !errors.As(err, &table) || !strings.Contains(err.Error(), "has rows") {
			t.Errorf("deferring the indexes of a table with rows: got %v", err)
		}
		checkIndexes(t, url, want)
	})
}

func TestDeferredIndexesAreBackAfterAStop(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		stop := make(chan struct{})
		var once sync.Once
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(5000, 0), Indexes: load.DeferIndexes, Settings: load.Settings{
			Chunk: 100, Stop: stop, Observe: func(loader.Event) { once.Do(func() { close(stop) }) },
		}})
		if _, err := l.Run(context.Background()); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("got %v, want ErrStopped", err)
		}
		checkIndexes(t, url, nil)
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{})
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
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", "CREATE UNIQUE INDEX once ON accounts (balance)")
		l := newLoad(t, url, load.Request{Dataset: dataset.NewAccounts(20_000, 5), Indexes: load.DeferIndexes})
		_, err := l.Run(context.Background())
		var index *load.IndexError
		if !errors.As(err, &index) || index.Name != "once" || len(index.Duplicates) == 0 || server.Classify(err) != server.Duplicate {
			t.Fatalf("got %v, want the index and its duplicates", err)
		}
		t.Log(err)
		// With the duplicates gone, resuming makes the index.
		loadertest.Exec(t, url, "DELETE FROM accounts WHERE balance IN (SELECT balance FROM accounts GROUP BY balance HAVING count(*) > 1)")
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDuplicatesAreThoseOfTheIndex has indexes that do not hold all rows: NULLs, which
// collide with nothing, a condition, an expression.
func TestDuplicatesAreThoseOfTheIndex(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		create := []string{"CREATE UNIQUE INDEX once ON t (a, b)", "CREATE UNIQUE INDEX once ON t (b) WHERE a = 1", "CREATE UNIQUE INDEX once ON t (lower(b))"}
		if s.Cockroach {
			create = create[:2] // no expressions in indexes before 21.2
		}
		file := t.TempDir() + "/rows.csv"
		if err := os.WriteFile(file, []byte("id,a,b\n1,,x\n2,,x\n3,1,twice\n4,1,twice\n5,2,other\n6,3,other\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, ddl := range create {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, a INT8, b TEXT)", ddl)
			l := newLoad(t, url, load.Request{Table: "t", Dataset: files.New(files.Request{Names: []string{file}, Input: files.NewInput(nil)}), Indexes: load.DeferIndexes})
			_, err := l.Run(context.Background())
			var index *load.IndexError
			if !errors.As(err, &index) {
				t.Fatalf("%s: got %v, want an IndexError", ddl, err)
			}
			want := [][]string{{"(a, b) = (1,twice), 2 times"}, {"(b) = twice, 2 times"}, {"(lower(b)) = other, 2 times", "(lower(b)) = twice, 2 times", "(lower(b)) = x, 2 times"}}[i]
			if got := slices.Sorted(slices.Values(index.Duplicates)); !slices.Equal(got, want) {
				t.Errorf("%s: got duplicates %q, want %q", ddl, got, want)
			}
		}
	})
}

func TestPreviewWritesNothing(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		const all = "SELECT count(*) FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'pg_catalog', 'crdb_internal', 'pg_extension')"
		before := loadertest.Value[int64](t, url, all)
		p, err := load.NewPreview(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(10_000, 0)}, "")
		if err != nil {
			t.Fatal(err)
		}
		if p.Create == "" || p.RowsPerChunk == 0 || p.Statement == "" {
			t.Errorf("got %+v", p)
		}
		indexed(t, url)
		p, err = load.NewPreview(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(10_000, 0)}, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Indexes) != 4 || p.Indexes[1].RowsPerChunkWithout == 0 || p.Create != "" {
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

// TestPlansSendNothingThatWrites has a proxy cut every statement that could write. The
// control is a load through the same proxy.
func TestPlansSendNothingThatWrites(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		indexed(t, url)
		loadertest.Exec(t, url, "CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)")
		proxy := loadertest.NewProxy(t, url)
		write := &loadertest.Fault{When: loadertest.Match{SQL: `^\s*(INSERT|UPSERT|UPDATE|DELETE|TRUNCATE|CREATE|ALTER|DROP|COPY|GRANT|REVOKE|IMPORT|BACKUP|RESTORE|COMMENT|ANALYZE|SELECT.*(nextval|setval|FOR UPDATE))`}, Times: -1, Do: loadertest.Cut}
		proxy.Add(write)
		for _, req := range []load.Request{
			{Dataset: dataset.NewPoints(10_000, 0)},
			{Dataset: dataset.NewPoints(10_000, 0), Indexes: load.DeferIndexes},
			{Dataset: dataset.NewPoints(10_000, 0), Table: "not_there"},
			{Dataset: dataset.NewAccounts(100, 0)},
		} {
			if _, err := load.NewPreview(context.Background(), loadertest.Open(t, proxy.URL()), req, ""); err != nil {
				t.Errorf("plan of %s: %v", req.Dataset.Facts().Kind, err)
			}
		}
		if n := write.Count(); n > 0 {
			t.Errorf("plans sent %d statements that write", n)
		}
		if l, err := load.New(context.Background(), loadertest.Open(t, proxy.URL()), load.Request{Dataset: dataset.NewPoints(10, 0)}); err == nil {
			l.Close()
		}
		if !write.Fired() {
			t.Error("the control: a load sent nothing that writes")
		}
	})
}

// TestPlansOfDeferredIndexes compares the plan with the load.
func TestPlansOfDeferredIndexes(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		req := load.Request{Dataset: dataset.NewPoints(10_000, 0), Indexes: load.DeferIndexes, Settings: load.Settings{Chunk: 9000}}
		p, err := load.NewPreview(context.Background(), loadertest.Open(t, url), req, "")
		if err != nil {
			t.Fatal(err)
		}
		deferred := slices.Sorted(slices.Values(p.Deferred))
		if len(p.Indexes) != 1 || !slices.Equal(deferred, want) {
			t.Errorf("got indexes %+v and deferred %q, want the primary one, and %q", p.Indexes, deferred, want)
		}
		checkIndexes(t, url, want)
		l := newLoad(t, url, req)
		if l.Plan.RowsPerChunk != p.RowsPerChunk {
			t.Errorf("the load's chunks hold %d rows, the plan's %d", l.Plan.RowsPerChunk, p.RowsPerChunk)
		}
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
	})
}

// TestAnOlderRunIsStillAtWorkOnTheIndex has another session make the index that a load
// is about to make again, as the server does for a client that has died.
func TestAnOlderRunIsStillAtWorkOnTheIndex(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, withName(t, url))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var older sync.WaitGroup
		defer older.Wait()
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(20_000, 0), Indexes: load.DeferIndexes, Settings: load.Settings{
			Note: func(text string) {
				if text != "recreating index by_x" {
					return
				}
				if s.Cockroach {
					// A schema change is a job; both sessions begin theirs.
					older.Go(func() { conn.Exec(ctx, "CREATE INDEX by_x ON points (x DESC)") })
					return
				}
				tx, err := conn.Begin(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := tx.Exec(ctx, "CREATE INDEX by_x ON points (x DESC)"); err != nil {
					t.Error(err)
				}
				older.Go(func() {
					loadertest.Eventually(t, "the load waits for the older run's index", func() bool {
						return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')")
					})
					if err := tx.Commit(ctx); err != nil {
						t.Error(err)
					}
				})
			},
		}})
		if _, err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
	})
}

// TestTheNextLoadBeginsWhereThisOneSettled has the server refuse large chunks, once.
func TestTheNextLoadBeginsWhereThisOneSettled(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		proxy := loadertest.NewProxy(t, url)
		l := newLoad(t, proxy.URL(), load.Request{Dataset: dataset.NewPoints(50_000, 0)})
		proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `(INSERT INTO|COPY) .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "53400"})
		first, err := l.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if first.RowsPerChunk >= l.Plan.RowsPerChunk {
			t.Fatalf("ended with chunks of %d rows, planned %d", first.RowsPerChunk, l.Plan.RowsPerChunk)
		}
		next := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(50_000, 0)})
		if next.Plan.RowsPerChunk != first.RowsPerChunk {
			t.Errorf("the next load plans chunks of %d rows, want %d", next.Plan.RowsPerChunk, first.RowsPerChunk)
		}
		// It may grow to the plan's size again, and then the one after it begins there.
		if load.MaxRowsOf(next) != l.Plan.RowsPerChunk {
			t.Errorf("the next load may grow to %d rows, want %d", load.MaxRowsOf(next), l.Plan.RowsPerChunk)
		}
		n := int64(100_000)
		if !s.Cockroach {
			n = 600_000
		}
		grown, err := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(n, 0)}).Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if grown.RowsPerChunk <= first.RowsPerChunk {
			t.Errorf("the next load ended with chunks of %d rows, no more than the %d it began with", grown.RowsPerChunk, first.RowsPerChunk)
		}
		if p, err := load.NewPreview(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(n, 0)}, ""); err != nil || p.RowsPerChunk != grown.RowsPerChunk || !strings.Contains(p.LimitedBy, "size of the last load of this table") {
			t.Errorf("the plan has chunks of %d rows for %q, %v; want %d, where the last load ended", p.RowsPerChunk, p.LimitedBy, err, grown.RowsPerChunk)
		}
		named := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(50_000, 0), Settings: load.Settings{Chunk: 700}})
		if named.Plan.RowsPerChunk != 700 {
			t.Errorf("a load with --chunk 700 plans chunks of %d rows", named.Plan.RowsPerChunk)
		}
	})
}
