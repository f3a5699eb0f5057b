package anytable_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/anytable"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestEveryWayGivesTheSameRows loads the rows of a seed in transactions, by statement, by IMPORT
// and from files of --out into tables of one definition: all of them are the same.
func TestEveryWayGivesTheSameRows(t *testing.T) {
	ctx := context.Background()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		ways := map[string]load.Settings{"transaction": {CommitMode: "transaction"}, "statement": {CommitMode: "statement"}, "automatic": {}}
		if s.Cockroach {
			ways["import"] = load.Settings{Method: load.Import}
		} else {
			ways["insert"] = load.Settings{Method: "insert"}
		}
		loadertest.Exec(t, url, "CREATE TABLE parent (id INT8 PRIMARY KEY)")
		table := "CREATE TABLE %s (id INT8 PRIMARY KEY, parent INT8 CONSTRAINT to_parent REFERENCES parent, name TEXT NOT NULL, note VARCHAR(80), price NUMERIC(8,2) NOT NULL CHECK (price >= 0.01), ratio FLOAT8, active BOOL, made TIMESTAMPTZ NOT NULL, born DATE, pause INTERVAL, data JSONB, raw BYTEA, ref UUID UNIQUE, ip INET, bits BIT(7), code CHAR(4))"
		loadertest.Exec(t, url, "CREATE TABLE arrays (id INT8 PRIMARY KEY, numbers INT[])")
		if s.Cockroach {
			if _, err := load.New(ctx, loadertest.Open(t, url), request("arrays", 5, load.Settings{Method: load.Import})); err == nil || !strings.Contains(err.Error(), "IMPORT does not read the text of an array") {
				t.Errorf("the error of an array with IMPORT is %v", err)
			}
		}
		for _, name := range []string{"transaction", "statement", "automatic", "import", "insert", "file"} {
			loadertest.Exec(t, url, fmt.Sprintf(table, name))
		}
		const n = 500
		run(t, fill(t, url, "parent", n, load.Settings{}))
		want := ""
		for _, name := range []string{"transaction", "statement", "automatic", "import", "insert"} {
			set, ok := ways[name]
			if !ok {
				continue
			}
			l := fill(t, url, name, n, set)
			if name == "automatic" && s.Cockroach && l.CommitMode != "statement" {
				t.Errorf("an empty table is loaded by %s, want by statement: %v", l.CommitMode, l.Notes)
			}
			run(t, l)
			got := checksum(t, url, name)
			if want == "" {
				want = got
			}
			if got != want || !strings.HasPrefix(got, fmt.Sprint(n, " ")) {
				t.Errorf("by %s the table is %s, want %s", name, got, want)
			}
			again, err := load.Resume(ctx, loadertest.Open(t, url), l.ID, load.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(again.Close)
			if got, err := again.Verify(ctx, nil); err != nil || !got.OK() || got.Same != n {
				t.Errorf("by %s: verified %+v, %v; want %d rows", name, got, err, n)
			}
		}

		rows, err := load.NewRows(ctx, loadertest.Open(t, url), request("file", n, load.Settings{}))
		if err != nil {
			t.Fatal(err)
		}
		out, err := importer.Write(ctx, importer.WriteRequest{Dataset: rows, Table: rows.Table.Name, Pattern: filepath.Join(t.TempDir(), "*.csv"), Files: 2})
		if err != nil {
			t.Fatal(err)
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM file"); n != 0 {
			t.Errorf("--out left %d rows in the table", n)
		}
		l, err := load.New(ctx, loadertest.Open(t, url), load.Request{Table: "file", Dataset: files.New(files.Request{
			Names: out.Names, Input: files.NewInput(strings.NewReader("")), Header: files.HeaderNo, Columns: out.Statement.Columns,
		})})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		run(t, l)
		if got := checksum(t, url, "file"); got != want {
			t.Errorf("from files the table is %s, want %s", got, want)
		}
	})
}

// TestValuesByExpression lets the server compute columns: rows go in transactions, and the columns
// are not compared.
func TestValuesByExpression(t *testing.T) {
	ctx := context.Background()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE parent (id INT8 PRIMARY KEY)", "INSERT INTO parent VALUES (5)",
			"CREATE TABLE sums (id INT8 PRIMARY KEY, a INT NOT NULL, b INT NOT NULL, total INT NOT NULL, parent INT8 NOT NULL REFERENCES parent, at TIMESTAMPTZ NOT NULL, CHECK (total = a + b))")
		with := func(set load.Settings, texts ...string) load.Request {
			r := anytable.Request{Rows: 200, Seed: 7}
			for _, text := range texts {
				v, err := anytable.ParseValue(text)
				if err != nil {
					t.Fatal(err)
				}
				r.Values = append(r.Values, v)
			}
			return load.Request{Dataset: anytable.New(r), Table: "sums", Settings: set}
		}
		l, err := load.New(ctx, loadertest.Open(t, url), with(load.Settings{Chunk: 70}, "total=sql(a + b)", "parent=sql((SELECT max(id) FROM parent))", "at=sql(now())"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		if l.CommitMode != "transaction" {
			t.Errorf("rows are committed by %s, want by transaction", l.CommitMode)
		}
		run(t, l)
		loadertest.Exec(t, url, "UPDATE sums SET at = at - '1 day'::INTERVAL")
		if got, err := l.Verify(ctx, nil); err != nil || !got.OK() || got.Same != 200 {
			t.Errorf("verified %+v, %v; want 200 rows", got, err)
		}
		for _, c := range []struct {
			want  string
			set   load.Settings
			value []string
		}{
			{"--commit statement cannot tell which rows are loaded", load.Settings{CommitMode: "statement"}, []string{"at=sql(now())"}},
			{"cannot be used with --via copy", load.Settings{Method: "copy"}, []string{"at=sql(now())"}},
			{"--value COLUMN=sql(…): ", load.Settings{}, []string{"at=sql(nosuch + 1)"}},
			{"--value COLUMN=sql(…): ", load.Settings{}, []string{"at=sql(1 +)"}},
			{"leave at least one column to loader", load.Settings{}, []string{"id=sql(1)", "a=sql(1)", "b=sql(1)", "total=sql(2)", "parent=sql(5)", "at=sql(now())"}},
		} {
			if _, err := load.New(ctx, loadertest.Open(t, url), with(c.set, c.value...)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: the error is %v, want one line with %q", c.value, err, c.want)
			}
		}
		if s.Cockroach {
			if _, err := load.New(ctx, loadertest.Open(t, url), with(load.Settings{Method: load.Import}, "at=sql(now())")); err == nil || !strings.Contains(err.Error(), "cannot be used with IMPORT") {
				t.Errorf("the error of an expression with IMPORT is %v", err)
			}
		}
		rows, err := load.NewRows(ctx, loadertest.Open(t, url), with(load.Settings{}, "total=sql(a + b)", "at=sql(now())"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := importer.Write(ctx, importer.WriteRequest{Dataset: rows, Table: rows.Table.Name, Pattern: filepath.Join(t.TempDir(), "x.csv")}); err == nil || !strings.Contains(err.Error(), "--out cannot be used with") {
			t.Errorf("the error of an expression with --out is %v", err)
		}
	})
}
