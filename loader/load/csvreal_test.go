package load_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/files"
	"bulkload/loader/loadertest"
)

// realFiles are published data sets; testdata/csv/SOURCES.md names their sources.
var realFiles = []struct {
	name   string
	header bool
	null   string
}{
	{"country-codes.csv", true, ""}, {"penguins.csv", true, ""}, {"mpg.csv", true, ""},
	{"seattle-weather.csv", true, ""}, {"countries.dat", false, ""}, {"planes.dat", false, `\N`},
}

// TestRealFiles loads each data set into columns of text, and compares with what
// encoding/csv reads, which keeps NULL and the empty text apart for none of them.
func TestRealFiles(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for i, f := range realFiles {
			path := filepath.Join("..", "..", "testdata", "csv", f.name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := csv.NewReader(bytes.NewReader(text))
			r.LazyQuotes = true
			records, err := r.ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			columns := make([]string, len(records[0]))
			for k := range columns {
				columns[k] = fmt.Sprintf("c%d", k)
			}
			name := fmt.Sprintf("t%d", i)
			loadertest.Exec(t, url, "CREATE TABLE "+name+" ("+strings.Join(columns, " TEXT, ")+" TEXT)")
			req := fileRequest(name, path)
			filesOf(req).Columns, filesOf(req).Null = columns, f.null
			filesOf(req).Header = files.HeaderNo
			if f.header {
				filesOf(req).Header = files.HeaderYes
				records = records[1:]
			}
			req.Chunk = 40
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			var want []string
			for _, r := range records {
				values := make([]*string, len(r))
				for k := range r {
					if r[k] != f.null {
						values[k] = &r[k]
					}
				}
				want = append(want, show(values))
			}
			query := "SELECT " + strings.Join(columns, ", ") + " FROM " + name
			if f.null == "" {
				// "" and nothing are the same to encoding/csv.
				for k, c := range columns {
					columns[k] = "NULLIF(" + c + ", '')"
				}
				query = "SELECT " + strings.Join(columns, ", ") + " FROM " + name
			}
			t.Logf("%s: %d rows", f.name, len(want))
			checkRows(t, table(t, url, query), want)
		}
	})
}

// TestCreateTableFitsRealFiles has the types guessed.
func TestCreateTableFitsRealFiles(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for i, want := range map[int]string{
			0: "", 1: "body_mass_g bigint", 2: "horsepower numeric", 3: "date date",
		} {
			f := realFiles[i]
			req := fileRequest(fmt.Sprintf("t%d", i), filepath.Join("..", "..", "testdata", "csv", f.name))
			filesOf(req).CreateTable = true
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
			name, typ, _ := strings.Cut(want, " ")
			if name != "" && l.Table.Column(name).Type != typ {
				t.Errorf("%s: column %s is %s, want %s", f.name, name, l.Table.Column(name).Type, typ)
			}
		}
	})
}
