package load_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// hostileFiles are those of testdata/csv/hostile, for a table of the two columns a and b
// of text: what it then holds, or the beginning of the error. An error that is found in
// the rows comes with those that may be in before it.
var hostileFiles = map[string]struct {
	want []string
	err  string
	// cockroach is what CockroachDB takes and PostgreSQL does not.
	cockroach []string
}{
	"bom-crlf.csv":            {want: []string{`"1"|"x\r\ny"|`, `"2"|"z"|`}},
	"cr.csv":                  {want: []string{`"1"|"x\ry"|`, `"2"|"z"|`}},
	"mixed-ends.csv":          {err: "mixed-ends.csv:3: 3 fields instead of 2"},
	"null-and-empty.csv":      {want: []string{`"1"|NULL|`, `"2"|""|`, `NULL|"3"|`, `""|"4"|`}},
	"quotes-inside.csv":       {want: []string{`"1"|"x\"y z\"w"|`, `"2"|"q\"q"|`, `"3"|"\""|`}},
	"backslash-dot.csv":       {err: "backslash-dot.csv:3: 1 field instead of 2"},
	"backslash-dot-field.csv": {want: []string{`"1"|"\\."|`, `"\\.\n"|"x"|`, `"2"|"\\N"|`}},
	"blank-line.csv":          {err: "blank-line.csv:3: an empty line instead of 2 fields"},
	"too-few.csv":             {err: "too-few.csv:3: 1 field instead of 2"},
	"too-many.csv":            {err: "too-many.csv:3: 3 fields instead of 2"},
	"unclosed-quote.csv":      {err: "unclosed-quote.csv:3: a quote is not closed before the end of the file; the record begins here"},
	"unclosed-at-end.csv":     {err: "unclosed-at-end.csv:3: a quote is not closed before the end of the file; the record begins here"},
	"nul.csv":                 {err: "nul.csv:3: ", cockroach: []string{`"1"|"x"|`, `"2"|"y\x00z"|`}},
	"not-utf8.csv":            {err: "/not-utf8.csv: is not UTF-8: byte 13, in line 3, is 0xe9; name its encoding: --encoding latin1 reads "},
	"utf-16le.csv":            {want: []string{`"1"|"café"|`, `"2"|"€\n"|`}},
	"utf-16be.csv":            {want: []string{`"1"|"😀"|`}},
	"semicolon.csv":           {want: []string{`"1"|"x,y"|`, `"2"|"z;"|`}},
	"tab.tsv":                 {want: []string{`"1"|"x,y"|`, `"2"|"z\t"|`}},
	"pipe.csv":                {want: []string{`"1"|"x"|`, `"2"|"y"|`}},
	"header-only.csv":         {},
	"empty.csv":               {},
	"only-ends.csv":           {err: "the first record has 1 fields, but public.h has 2 columns"},
	"twice.csv":               {err: "two fields of the header have the name a"},
	"unnamed.csv":             {err: "field 2 of the header has no name"},
	"blanks-in-header.csv":    {want: []string{`" 1 "|" x "|`}},
	"other-width.csv":         {err: "public.h has no column c"},
	"separators.csv":          {want: []string{`"1"|"x\u2028y\u0085z\v\f\x1c"|`}},
	"truncated.csv.gz":        {err: "/truncated.csv.gz: after byte "},
	"two-members.csv.gz":      {want: []string{`"1"|"x"|`, `"2"|"y"|`}},
}

func TestHostileFiles(t *testing.T) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "testdata", "csv", "hostile"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		srv := loadertest.Open(t, url)
		loadertest.Exec(t, url, "CREATE TABLE h (a TEXT, b TEXT)")
		for _, name := range names {
			c, ok := hostileFiles[name.Name()]
			if !ok {
				t.Errorf("nothing is known of %s", name.Name())
				continue
			}
			if s.Product == server.CockroachDB && c.cockroach != nil {
				c.want, c.err = c.cockroach, ""
			}
			loadertest.Exec(t, url, "DELETE FROM h WHERE true")
			err := func() error {
				l, err := load.New(context.Background(), srv, fileRequest("h", filepath.Join(dir, name.Name())))
				if err != nil {
					return err
				}
				defer l.Close()
				_, err = l.Run(context.Background())
				return err
			}()
			switch {
			case c.err == "" && err != nil:
				t.Errorf("%s: %v", name.Name(), err)
			case c.err == "":
				checkRows(t, table(t, url, "SELECT a, b FROM h"), c.want)
			case err == nil || !strings.HasPrefix(strings.TrimPrefix(err.Error(), dir), c.err):
				t.Errorf("%s: got %v, want %s…", name.Name(), err, c.err)
			}
		}
	})
}
