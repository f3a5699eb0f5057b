package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
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

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// write makes a file in the test's directory.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// filesOf returns what a request of files asks for.
func filesOf(req load.Request) *files.Request { return &req.Dataset.(*files.Dataset).Request }

// fileRequest returns a request for the named files.
func fileRequest(table string, names ...string) load.Request {
	return load.Request{Table: table, Dataset: files.New(files.Request{Names: names, Input: files.NewInput(strings.NewReader(""))})}
}

// table returns the rows of a query as text, sorted; NULL is "NULL" and a text is quoted.
func table(t testing.TB, url, query string) []string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	found, err := conn.Query(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		n := len(row.FieldDescriptions())
		values, targets := make([]*string, n), make([]any, n)
		for i := range values {
			targets[i] = &values[i]
		}
		if err := row.Scan(targets...); err != nil {
			return "", err
		}
		return show(values), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func show(values []*string) string {
	var b strings.Builder
	for _, v := range values {
		if v == nil {
			b.WriteString("NULL|")
		} else {
			fmt.Fprintf(&b, "%q|", *v)
		}
	}
	return b.String()
}

func checkRows(t testing.TB, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("the table has %d rows, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("row %d is %s, want %s", i, at(got, i), at(want, i))
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "missing"
}

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

// dirty returns the text of a file with hostile but valid records, and its rows.
func dirty(n int) (text string, want []string) {
	var b strings.Builder
	b.WriteString("\xef\xbb\xbfid,a,b\r\n")
	for i := range n {
		a, c := fmt.Sprint("v", i), ""
		id := fmt.Sprint(i)
		var pa, pc *string = &a, &c
		switch i % 6 {
		case 0:
			fmt.Fprintf(&b, "%d,%s,\"\"\r\n", i, a)
		case 1:
			pc = nil
			fmt.Fprintf(&b, "\"%d\",\"%s\",\n", i, a)
		case 2:
			c = "line one\r\nline \"two\"\ttab\\N\\"
			fmt.Fprintf(&b, "%d,%s,\"line one\r\nline \"\"two\"\"\ttab\\N\\\"\r\n", i, a)
		case 3:
			a = strings.Repeat("é,", 500)
			fmt.Fprintf(&b, "%d,\"%s\",\"\"\n", i, a)
		case 4:
			a, c = "\\.", " \u2028 "
			fmt.Fprintf(&b, "%d,\\., \u2028 \n", i)
		case 5:
			pa, pc = nil, nil
			fmt.Fprintf(&b, "%d,,\n", i)
		}
		want = append(want, show([]*string{&id, pa, pc}))
	}
	return b.String(), want
}

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

// badFile has every kind of bad record among good ones.
const badFile = "id,n,s\n" +
	"1,10,a\n" +
	"2,x,b\n" + // no number
	"3,30\n" + // too few fields
	"4,40,\"two\nlines\"\n" +
	"\n" + // empty
	"5,50,c,d\n" + // too many
	"1,60,e\n" + // key that is there
	"6,-70,f\n" + // CHECK
	"7,80,\n" + // NOT NULL
	"8,90,\xff\xfe\n" + // no UTF-8
	"9,99999999999999999999,g\n" +
	"10,100,h\n" +
	"11,110,\"open\n" // a quote that is not closed

var badLines = map[int64]string{3: "22P02", 4: "22P04", 7: "22P04", 8: "22P04", 9: "23505", 10: "23514", 11: "23502", 12: "22021", 13: "22003", 15: "22P04"}

func TestBadRecordsAreSetAside(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, set := range []load.Settings{{}, {Method: commit.Insert, Chunk: 3, Workers: 1}, {Chunk: 1, Workers: 1}} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8 CHECK (n > 0), s TEXT NOT NULL)")
			req := fileRequest("t", write(t, "bad.csv", badFile))
			req.Settings = set
			filesOf(req).MaxErrors.Records = int64(len(badLines))
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if err != nil {
				t.Fatalf("%+v: %v", set, err)
			}
			checkRows(t, table(t, url, "SELECT id::TEXT, n::TEXT, s FROM t"), []string{`"1"|"10"|"a"|`, "\"4\"|\"40\"|\"two\\nlines\"|", `"10"|"100"|"h"|`})
			if res.Rows != 3 || res.Rejected != int64(len(badLines)) {
				t.Errorf("%+v: %d rows and %d rejects, want 3 and %d", set, res.Rows, res.Rejected, len(badLines))
			}
			got := map[int64]string{}
			lines := strings.SplitAfter(badFile, "\n")
			err = l.EachReject(context.Background(), func(r rows.Reject) error {
				got[r.Line] = r.Code
				if want := lines[r.Line-1]; string(r.Record) != want {
					t.Errorf("line %d was kept as %q, want %q", r.Line, r.Record, want)
				}
				if badFile[r.Byte:r.Byte+int64(len(r.Record))] != string(r.Record) {
					t.Errorf("line %d is not at byte %d", r.Line, r.Byte)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for line, code := range badLines {
				if got[line] == "" || got[line] != code && s.Product == server.PostgreSQL {
					t.Errorf("%+v: line %d has code %q, want %s", set, line, got[line], code)
				}
			}
			// One fewer is too few.
			loadertest.Exec(t, url, "DELETE FROM t")
			filesOf(req).MaxErrors.Records--
			l = newLoad(t, url, req)
			_, err = l.Run(context.Background())
			var many *commit.ToleranceError
			if !errors.As(err, &many) {
				t.Errorf("%+v: got %v, want a ToleranceError", set, err)
			}
		}
	})
}

// TestTheFirstBadRowStopsTheLoad names its place, and has none of its chunk in.
func TestTheFirstBadRowStopsTheLoad(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, c := range []struct {
			text, want string
			in         int64
		}{
			{"id,n,s\n1,10,a\n2,20,b\n3,x,c\n", "bad.csv:4: ", 0},
			{"id,n,s\n1,10,a\n2,20,\"b\nb\"\n1,30,c\n", "bad.csv:5: ", 0},
			{"id,n,s\n1,10,a\n2,20\n", "bad.csv:3: 2 fields", 0},
			// What is before the quote is a chunk of its own.
			{"id,n,s\n1,10,a\n2,20,\"b\n", "bad.csv:3: a quote is not closed", 1},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8, s TEXT)")
			l := newLoad(t, url, fileRequest("t", write(t, "bad.csv", c.text)))
			_, err := l.Run(context.Background())
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q: got %v, want %s…", c.text, err, c.want)
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != c.in {
				t.Errorf("%q: %d rows are in, want %d", c.text, n, c.in)
			}
		}
	})
}

func TestConflicts(t *testing.T) {
	text := "id,s\n1,new\n2,new\n3,new\n3,newer\n"
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		for _, c := range []struct {
			conflict  commit.Conflict
			want      []string
			conflicts int64
		}{
			{commit.SkipRow, []string{`"1"|"old"|`, `"2"|"new"|`, `"3"|"new"|`}, 2},
			{commit.UpdateRow, []string{`"1"|"new"|`, `"2"|"new"|`, `"3"|"newer"|`}, 2},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)", "INSERT INTO t VALUES (1, 'old')")
			req := fileRequest("t", write(t, "x.csv", text))
			filesOf(req).Conflict = c.conflict
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if err != nil || res.Conflicts != c.conflicts {
				t.Errorf("%s: %d conflicts, %v; want %d", c.conflict, res.Conflicts, err, c.conflicts)
			}
			checkRows(t, table(t, url, "SELECT id::TEXT, s FROM t"), c.want)
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
