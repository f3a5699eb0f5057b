package bench_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/bench"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// grid is one cell.
func grid(chunks ...int64) bench.Grid {
	return bench.Grid{Chunks: chunks, Workers: []int{2}, Methods: []commit.Method{commit.Insert}, CommitModes: []commit.Mode{""}, Indexes: []load.Indexes{load.KeepIndexes}}
}

// points returns a Bench of n points.
func points(t *testing.T, url string, n int64, g bench.Grid, count int) *bench.Bench {
	t.Helper()
	return &bench.Bench{
		Server: loadertest.Open(t, url), Grid: g, Count: count,
		Request: func() load.Request { return load.Request{Dataset: dataset.NewPoints(n, 7)} },
	}
}

// checkNothingLeft holds that no scratch table and no record is there.
func checkNothingLeft(t *testing.T, url string) {
	t.Helper()
	for what, q := range map[string]string{
		"scratch tables": `SELECT count(*) FROM pg_catalog.pg_class WHERE relname LIKE 'loader\_bench\_%' AND relkind = 'r'`,
		"records":        `SELECT count(*) FROM loader.loads`,
		"indexes":        `SELECT count(*) FROM loader.indexes`,
		"rows of ledger": `SELECT count(*) FROM loader.ledger`,
	} {
		if n := loadertest.Value[int64](t, url, q); n != 0 {
			t.Errorf("%d %s are left", n, what)
		}
	}
}

// TestCliff: below 10 000 rows CockroachDB commits every chunk in one phase, by its own
// count, and from there on it takes longer, by the clock, where that can be believed.
func TestCliff(t *testing.T) {
	loadertest.Slow(t)
	url := loadertest.CockroachServer(t).NewDatabase(t)
	n, count := int64(20_000), 2
	if idle {
		n, count = 40_000, 5
	}
	b := points(t, url, n, grid(9000, 10_000), count)
	rep, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var below, above bench.Cell
	for _, c := range rep.Cells {
		switch c.Chunk {
		case 9000:
			below = c
		case 10_000:
			above = c
		}
	}
	for i, m := range below.Runs {
		if m.OnePhase < m.Chunks {
			t.Errorf("chunks of 9000, run %d: %d chunks, but %d commits in one phase", i, m.Chunks, m.OnePhase)
		}
	}
	if ratio := below.Rate.Center / above.Rate.Center; idle && ratio < 1.15 {
		t.Errorf("chunks of 9000 have %.2f × the rate of 10 000", ratio)
	} else {
		t.Logf("chunks of 9000 have %.2f × the rate of 10 000", ratio)
	}
	if text := strings.Join(rep.Advice.Lines, "\n"); !strings.Contains(text, "above 9999 rows the server needs two phases") {
		t.Errorf("the answer says nothing of it:\n%s", text)
	}
	if c := above.Condensed; c != 0 {
		t.Errorf("%d condensed transactions below the limit", c)
	}
	checkNothingLeft(t, url)
}

// TestScratchIsLikeTheTable: indexes, defaults, checks, families and foreign keys are those
// of the named table, which stays as it is.
func TestScratchIsLikeTheTable(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, `CREATE TABLE kinds (kind INT PRIMARY KEY)`)
		loadertest.Exec(t, url, `INSERT INTO kinds VALUES (1)`)
		family := ""
		if s.Cockroach {
			family = ", FAMILY a (id, x, y), FAMILY b (z, kind)"
		}
		loadertest.Exec(t, url, `CREATE TABLE "Odd (name" (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL CHECK (x >= 0), y FLOAT8 NOT NULL, z FLOAT8 NOT NULL,
			kind INT DEFAULT 1 REFERENCES kinds`+family+`)`)
		loadertest.Exec(t, url, `CREATE INDEX by_x ON "Odd (name" (x)`)
		srv := loadertest.Open(t, url)
		describe := func(name pgx.Identifier) (d *server.Table) {
			err := server.With(context.Background(), srv.Config, func(c *pgx.Conn) (err error) {
				d, err = server.Describe(context.Background(), c, srv.Info, name)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		want := describe(pgx.Identifier{"Odd (name"})
		looked := 0
		b := points(t, url, 500, grid(100), 1)
		b.Grid.Indexes = append(b.Grid.Indexes, load.DeferIndexes)
		b.Request = func() load.Request {
			// Called when the run's table is there.
			if name := loadertest.Value[string](t, url, `SELECT COALESCE(max(relname), '') FROM pg_catalog.pg_class WHERE relname LIKE 'loader\_bench\_%' AND relkind = 'r'`); name != "" {
				got := describe(pgx.Identifier{name})
				if len(got.Columns) != len(want.Columns) || len(got.ForeignKeys) != 1 || len(got.Keys.Families) != len(want.Keys.Families) {
					t.Errorf("%d columns, foreign keys %v, families %v; want those of\n%+v", len(got.Columns), got.ForeignKeys, got.Keys.Families, want)
				}
				if n := len(got.Indexes); n == len(want.Indexes) {
					looked++
				}
			}
			return load.Request{Dataset: dataset.NewPoints(500, 7), Table: `"Odd (name"`}
		}
		rep, err := b.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if looked < 3 {
			t.Errorf("%d looks at a table with all indexes", looked)
		}
		for _, c := range rep.Cells {
			if len(c.Runs) != 1 || c.Runs[0].Rows != 500 {
				t.Errorf("%v: %+v %s", c.Setting, c.Runs, c.Error)
			}
		}
		if n := loadertest.Value[int64](t, url, `SELECT count(*) FROM "Odd (name"`); n != 0 {
			t.Errorf("%d rows in the named table", n)
		}
		checkNothingLeft(t, url)
	})
}

// TestSaved: a load with nothing said begins from what is saved, also above a limit that is
// only advice.
func TestSaved(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		srv := loadertest.Open(t, s.NewDatabase(t))
		pool, err := srv.Pool(t.Context(), server.Sessions{Name: "test", Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		reg, err := registry.Create(t.Context(), pool, srv.Info)
		if err != nil {
			t.Fatal(err)
		}
		rep := bench.Report{Table: "public.points", Kind: "points"}
		if err := rep.Save(t.Context(), reg); !errors.Is(err, bench.ErrNothing) {
			t.Errorf("saving nothing gives %v", err)
		}
		want := bench.Setting{Chunk: 12_000, Workers: 3, Method: commit.Insert, CommitMode: commit.Statement, Indexes: load.KeepIndexes}
		rep.Advice.Use = want
		if err := rep.Save(t.Context(), reg); err != nil {
			t.Fatal(err)
		}
		l, err := load.New(t.Context(), srv, load.Request{Dataset: dataset.NewPoints(10, 7)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got := bench.Setting{Chunk: l.Plan.RowsPerChunk, Workers: l.Workers.Start, Method: l.Method, CommitMode: l.CommitMode, Indexes: load.KeepIndexes}
		if got != want {
			t.Errorf("a load takes %v, want %v", got, want)
		}
	})
}

// TestStop: what was measured before the stop is reported, and nothing stays.
func TestStop(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for name, hard := range map[string]bool{"stop": false, "cancelled": true} {
			t.Run(name, func(t *testing.T) {
				url := s.NewDatabase(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stop := make(chan struct{})
				b := points(t, url, 2000, grid(100, 200), 100)
				b.Grid.Indexes = []load.Indexes{load.DeferIndexes}
				b.Stop = stop
				b.Observe = func(p bench.Progress) {
					if p.Warm || p.Done < 4 {
						return
					}
					if hard {
						cancel()
						return
					}
					select {
					case <-stop:
					default:
						close(stop)
					}
				}
				rep, err := b.Run(ctx)
				if want := map[bool]error{false: loader.ErrStopped, true: context.Canceled}[hard]; !errors.Is(err, want) {
					t.Errorf("the error is %v, want %v", err, want)
				}
				runs := 0
				for _, c := range rep.Cells {
					runs += len(c.Runs)
				}
				if runs == 0 || runs > 4 || len(rep.Advice.Lines) == 0 || rep.Ended == "" {
					t.Errorf("%d runs, %q, %q", runs, rep.Ended, rep.Advice.Lines)
				}
				checkNothingLeft(t, url)
			})
		}
	})
}

// TestOthersAreLeftAlone: a bench drops what dead ones have left, and not what one that
// lives uses.
func TestOthersAreLeftAlone(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, `CREATE TABLE loader_bench_l1v30000_1 (id INT)`)
		loadertest.Exec(t, url, `CREATE TABLE loader_bench_dead0000_7 (id INT)`)
		cfg, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		cfg.RuntimeParams["application_name"] = "loader bench l1v30000"
		other, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close(context.Background())
		there := func() string {
			return loadertest.Value[string](t, url, `SELECT COALESCE(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_catalog.pg_class WHERE relname LIKE 'loader\_bench\_%'`)
		}
		if _, err := points(t, url, 200, grid(100), 1).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := there(); got != "loader_bench_l1v30000_1" {
			t.Errorf("there is %q; the living bench's table should be, and no other", got)
		}
		other.Close(context.Background())
		loadertest.Eventually(t, "the other session's end", func() bool {
			if _, err := points(t, url, 200, grid(100), 1).Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			return there() == ""
		})
	})
}

// TestMetricsThatAreRefused sweeps a server that refuses its internal tables, as 26.1 does by
// default.
func TestMetricsThatAreRefused(t *testing.T) {
	url := loadertest.NewestCockroachServer(t).NewDatabase(t)
	rep, err := points(t, url+"&options=-c%20allow_unsafe_internals%3Doff", 200, grid(100), 1).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := rep.WriteText(&text, 120); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "not readable") {
		t.Errorf("nothing says that the metrics cannot be read:\n%s", text.String())
	}
	for _, c := range rep.Cells {
		for _, m := range c.Runs {
			if m.Condensed != -1 || m.OnePhase != -1 {
				t.Errorf("got %d and %d of metrics that cannot be read", m.Condensed, m.OnePhase)
			}
		}
	}
}
