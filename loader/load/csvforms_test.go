package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"

	"bulkload/loader"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestForms loads one file as it is compressed, encoded, or sent.
func TestForms(t *testing.T) {
	text, want := dirty(2500)
	var gz, zs bytes.Buffer
	gw := gzip.NewWriter(&gz)
	io.WriteString(gw, text)
	gw.Close()
	zw, _ := zstd.NewWriter(&zs)
	io.WriteString(zw, text)
	zw.Close()
	var wide []byte
	for _, u := range utf16.Encode([]rune("\ufeff" + strings.TrimPrefix(text, "\xef\xbb\xbf"))) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Write(gz.Bytes())
	}))
	defer web.Close()
	third := len(text) / 3
	third += strings.Index(text[third:], "\n0,")
	parts := strings.SplitAfterN(text, "\r\n", 2)
	half := strings.Index(parts[1], "\n1200,") + 1
	dir := t.TempDir()
	for name, body := range map[string]string{"a.csv": parts[0] + parts[1][:half], "b.csv": parts[0] + parts[1][half:], "c.csv": parts[0], "d.csv": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	many, err := files.Expand([]string{filepath.Join(dir, "*.csv")})
	if err != nil {
		t.Fatal(err)
	}
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		url := s.NewDatabase(t)
		for _, c := range []struct {
			name  string
			names []string
			stdin io.Reader
		}{
			{"plain", []string{write(t, "x.csv", text)}, nil},
			{"gzip", []string{write(t, "x", gz.String())}, nil},
			{"zstd", []string{write(t, "x", zs.String())}, nil},
			{"utf-16", []string{write(t, "x", string(wide))}, nil},
			{"stdin", []string{files.Stdin}, strings.NewReader(text)},
			{"stdin gzip", []string{files.Stdin}, bytes.NewReader(gz.Bytes())},
			{"http", []string{web.URL + "/x.csv.gz?token=1"}, nil},
			{"many", many, nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8 PRIMARY KEY, a TEXT, b TEXT)")
				req := fileRequest("t", c.names...)
				if c.stdin != nil {
					filesOf(req).Input = files.NewInput(c.stdin)
				}
				req.Chunk, req.Workers = 300, 3
				l := newLoad(t, url, req)
				if _, err := l.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
				checkRows(t, table(t, url, "SELECT id::TEXT, a, b FROM t"), slices.Clone(want))
			})
		}
	})
}

// TestLongBeginnings has a header, and a first record, longer than what is looked at of
// a file at first, from a file and from stdin, plain and compressed.
func TestLongBeginnings(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	header, record, ddl, long := "id", "1", "CREATE TABLE wide (id INT8", strings.Repeat("y\n", 50_000)
	for i := range 1200 {
		name := fmt.Sprintf("column_%d_%s", i, strings.Repeat("x", 45))
		header, record, ddl = header+","+name, record+",", ddl+", "+name+" TEXT"
	}
	loadertest.Exec(t, url, ddl+")", "CREATE TABLE long (id INT8, s TEXT)")
	for _, c := range []struct{ table, text string }{{"wide", header + "\n" + record + "\n"}, {"long", "1,\"" + long + "\"\n2,x"}} {
		for _, form := range []string{"plain", "gzip", "stdin", "gzip from stdin"} {
			text := c.text
			if strings.HasPrefix(form, "gzip") {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				io.WriteString(z, text)
				z.Close()
				text = b.String()
			}
			loadertest.Exec(t, url, "DELETE FROM "+c.table)
			req := fileRequest(c.table, write(t, "x", text))
			if strings.HasSuffix(form, "stdin") {
				filesOf(req).Names, filesOf(req).Input = []string{files.Stdin}, files.NewInput(strings.NewReader(text))
			}
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Errorf("%s, %s: %v", c.table, form, err)
			}
			want := map[string]int64{"wide": 1, "long": 2}[c.table]
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+c.table); n != want {
				t.Errorf("%s, %s: %d rows, want %d", c.table, form, n, want)
			}
		}
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM long WHERE length(s) IN (1, $1)", len(long)); n != 2 {
		t.Errorf("%d records are whole, want 2", n)
	}
	// One that has no end says so in few words.
	_, err := load.New(context.Background(), loadertest.Open(t, url), fileRequest("long", write(t, "x.csv", "id,\"s\n"+strings.Repeat("1,x\n", 2<<20))))
	var bad *files.FileError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "no record ends within the first") || len(err.Error()) > 400 {
		t.Errorf("got %v, want a FileError", err)
	}
	_, err = load.New(context.Background(), loadertest.Open(t, url), fileRequest("long", write(t, "x.csv", "id,\"s\n"+strings.Repeat("1,x\n", 50_000)+"\"\n")))
	var table *load.TableError
	if !errors.As(err, &table) || len(err.Error()) > 400 {
		t.Errorf("got %v, want a short TableError", err)
	}
}

// TestStreamsResume stops a load of a compressed file and goes on with it.
func TestStreamsResume(t *testing.T) {
	text, want := dirty(20_000)
	var gz bytes.Buffer
	gw := gzip.NewWriter(&gz)
	io.WriteString(gw, text)
	gw.Close()
	path := write(t, "x.gz", gz.String())
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8, a TEXT, b TEXT)") // no unique key
		req := fileRequest("t", path)
		stop := make(chan struct{})
		chunks := 0
		req.Chunk, req.Workers, req.Stop = 200, 3, stop
		req.Observe = func(loader.Event) {
			if chunks++; chunks == 7 {
				close(stop)
			}
		}
		l := newLoad(t, url, req)
		res, err := l.Run(context.Background())
		if !errors.Is(err, loader.ErrStopped) || res.Rows == 20_000 {
			t.Fatalf("%d rows, %v; want a part, and ErrStopped", res.Rows, err)
		}
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Chunk: 333, Input: files.NewInput(nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		more, err := again.Run(context.Background())
		if err != nil || res.Rows+more.Rows != 20_000 {
			t.Fatalf("%d rows and %d more, %v", res.Rows, more.Rows, err)
		}
		checkRows(t, table(t, url, "SELECT id::TEXT, a, b FROM t"), slices.Clone(want))
	})
}

func TestTruncatedGzip(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	text, _ := dirty(20_000)
	var gz bytes.Buffer
	gw := gzip.NewWriter(&gz)
	io.WriteString(gw, text)
	gw.Close()
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
	l := newLoad(t, url, fileRequest("t", write(t, "x.gz", gz.String()[:gz.Len()-100])))
	_, err := l.Run(context.Background())
	var file *files.FileError
	if !errors.As(err, &file) || !strings.Contains(err.Error(), "ends early") {
		t.Errorf("got %v, want a FileError that says where the data ends", err)
	}
}

func TestFilesThatChange(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	text, _ := dirty(5000)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, path string)
		want   error
	}{
		{"grows", func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			f.WriteString("9999,a,b\n")
		}, files.ErrChanged},
		{"same size", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Replace(text, "v12", "w12", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, files.ErrChanged},
		{"is deleted", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
			path := write(t, "x.csv", text)
			req := fileRequest("t", path)
			req.Chunk, req.Workers = 100, 1
			n := 0
			req.Observe = func(loader.Event) {
				if n++; n == 2 {
					c.change(t, path)
				}
			}
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if !errors.Is(err, c.want) || c.want == nil && res.Rows != 5000 {
				t.Fatalf("%d rows, %v; want %v", res.Rows, err, c.want)
			}
			if c.want != nil {
				_, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
				if !errors.Is(err, files.ErrChanged) {
					t.Errorf("resume: %v, want ErrChanged", err)
				}
			}
		})
	}
}
