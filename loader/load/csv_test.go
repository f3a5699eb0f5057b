package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestAnyChunkSizeGivesTheSameTable loads one file many ways.
func TestAnyChunkSizeGivesTheSameTable(t *testing.T) {
	text, want := dirty(3000)
	path := write(t, "dirty.csv", text)
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, set := range []load.Settings{
			{Chunk: 1000, Workers: 1}, {Chunk: 77, Workers: 4}, {Chunk: 3001, Workers: 2},
			{Workers: 3, Method: commit.Insert}, {Chunk: 500, CommitMode: commit.Statement, Method: commit.Insert}, {Chunk: 100, CommitMode: commit.Transaction, Method: commit.Copy, InOrder: true},
		} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8 PRIMARY KEY, a TEXT, b TEXT)")
			req := fileRequest("t", path)
			req.Settings = set
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if err != nil || res.Rows != 3000 {
				t.Fatalf("%+v: %d rows, %v", set, res.Rows, err)
			}
			checkRows(t, table(t, url, "SELECT id::TEXT, a, b FROM t"), slices.Clone(want))
			got, err := l.Verify(context.Background(), nil)
			if err != nil || !got.OK() || got.Same != 3000 {
				t.Errorf("%+v: verify says %+v, %v", set, got, err)
			}
		}
	})
}

// TestColumns maps, drops and computes columns.
func TestColumns(t *testing.T) {
	text := "Order No;price;qty;junk\n1;2.50;4;x\n2;1.25;2;y\n"
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, total DECIMAL(8,2) NOT NULL, tag VARCHAR(3) DEFAULT 'std', kind TEXT)")
		req := fileRequest("t", write(t, "x.csv", text))
		filesOf(req).Map = map[string]string{"Order No": "ID", "junk": ""}
		filesOf(req).Set = []commit.Assignment{{Column: "total", Expr: "(price::DECIMAL * qty::DECIMAL)"}, {Column: "kind", Expr: "('web')"}}
		l := newLoad(t, url, req)
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkRows(t, table(t, url, "SELECT id::TEXT, total::TEXT, tag, kind FROM t"), []string{`"1"|"10.00"|"std"|"web"|`, `"2"|"2.50"|"std"|"web"|`})

		for _, c := range []struct {
			change func(*files.Request)
			want   string
		}{
			{func(f *files.Request) { f.Set = nil }, "has no column price"},
			{func(f *files.Request) { f.Set = f.Set[1:] }, "has no column price"},
			{func(f *files.Request) { f.Set = f.Set[1:]; f.Map["price"], f.Map["qty"] = "", "" }, "column total of public.t is NOT NULL"},
			{func(f *files.Request) { f.Map["nix"] = "id" }, `--map names field nix`},
			{func(f *files.Request) { f.Map["junk"] = "id" }, "column id is set twice"},
			{func(f *files.Request) { f.Map["junk"] = "tga" }, "; did you mean --map junk=tag?"},
			{func(f *files.Request) { f.Set[1].Column = "kin" }, "did you mean kind?"},
		} {
			req := fileRequest("t", filesOf(req).Names...)
			filesOf(req).Map = map[string]string{"Order No": "ID", "junk": ""}
			filesOf(req).Set = []commit.Assignment{{Column: "total", Expr: "(price::DECIMAL * qty::DECIMAL)"}, {Column: "kind", Expr: "('web')"}}
			c.change(filesOf(req))
			_, err := load.New(context.Background(), loadertest.Open(t, url), req)
			var bad *load.TableError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		}
	})
}
