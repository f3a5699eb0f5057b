package load_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestImportSkipsWhatIsInFrontOfRecords has the server read files as they are: it passes
// over as many records of each as stand in front of the data, whatever lines they take.
func TestImportSkipsWhatIsInFrontOfRecords(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	for i, test := range []struct {
		name    string
		texts   []string
		skip    int
		refused string // and by what; empty is loaded, with the sum of ids
		sum     int64
	}{
		{"the last file is empty", []string{"id,s\n1,a\n2,b\n", "id,s\n4,c\n", ""}, 0, "", 7},
		{"a header with an end of line", []string{"id,\"the\ns\"\n1,a\n2,b\n", "id,\"the\ns\"\n4,c\n"}, 0, "", 7},
		{"ends of lines by CR alone", []string{"id,s\r1,a\r2,b\r"}, 0, "0.csv has a line before its data that ends with CR", 0},
		{"blank lines in front", []string{"\n\nid,s\n1,a\n2,b\n"}, 2, "", 3},
		{"lines in front, and a mark of order", []string{"\xef\xbb\xbfrows of today\nid,s\n1,a\n2,b\n"}, 1, "", 3},
		{"a file that ends within them", []string{"x\ny\nid,s\n1,a\n", "x\n"}, 2, "", 1},
		{"as many lines, and fewer records", []string{"x\ny\nid,s\n1,a\n", "\"x\ny\"\nid,s\n2,b\n"}, 2, "1.csv has 2 records before its data, but 0.csv has 3", 0},
		{"a quote within a field in front", []string{"the 5\" ones\nid,s\n1,a\n"}, 1, "", 1},
		{"a quote that is open in front", []string{"\"the 5 ones\nid,s\n1,a\n"}, 1, "0.csv has an unclosed quote before its data", 0},
		{"a byte that is not UTF-8, far behind", []string{behind(15_000, "id,s\n", "1,abc\n", "2,M\xfcller\n")}, 0, `0.csv:15002: byte 90008 is 0xfc, which is not UTF-8; name its encoding: --encoding latin1 reads "Müller"`, 0},
		{"text behind a quote", []string{"id,s\n1,a\n2,\"y\"z\n"}, 0, "0.csv:3: text follows a closing quote", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if i > 1 && test.refused == "" {
				loadertest.Long(t)
			}
			dir, name := t.TempDir(), fmt.Sprintf("t%d", i)
			loadertest.Exec(t, url, "CREATE TABLE "+name+" (id INT8 PRIMARY KEY, s TEXT)")
			server := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer server.Close()
			f := &files.Request{Input: files.NewInput(nil), Skip: test.skip, Header: files.HeaderYes, Columns: []string{"id", "s"}}
			o := importer.Options{Mode: importer.URLs}
			for i, text := range test.texts {
				file := fmt.Sprintf("%d.csv", i)
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				f.Names, o.Files = append(f.Names, filepath.Join(dir, file)), append(o.Files, server.URL+"/"+file)
			}
			req := load.Request{Table: name, Dataset: files.New(*f), Settings: load.Settings{Method: load.Import, ImportOptions: o}}
			if test.refused != "" {
				l, err := load.New(context.Background(), loadertest.Open(t, url), req)
				if err == nil {
					l.Close()
				}
				var table *load.TableError
				if !errors.As(err, &table) && failure.Of(err) != failure.Data || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %v, want %q", err, test.refused)
				}
				return
			}
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Error(err)
			}
			if got := loadertest.Value[int64](t, url, "SELECT COALESCE(sum(id), 0)::INT8 FROM "+name); got != test.sum {
				t.Errorf("the ids have the sum %d, want %d", got, test.sum)
			}
		})
	}
}
