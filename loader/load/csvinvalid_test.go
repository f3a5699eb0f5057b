package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"

	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestInvalidTextIsFoundAnywhere has a byte that is not UTF-8 far behind the beginning of a file:
// the error has its line, its byte and the encodings that may be meant, whatever reads it.
func TestInvalidTextIsFoundAnywhere(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		ctx := context.Background()
		text := behind(20_000, "id,v\n", "1,abc\n", "2,M\xfcller\n3,x\n")
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write([]byte(text))
		w.Close()
		const want = `:20002: byte 120008 is 0xfc, which is not UTF-8; name its encoding: --encoding latin1 reads "Müller", --encoding mac reads "M¸ller"`
		for name, content := range map[string]string{"x.csv": text, "x.csv.gz": z.String()} {
			path := write(t, name, content)
			for _, method := range []commit.Method{commit.Insert, commit.Copy} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, v TEXT)")
				req := fileRequest("t", path)
				req.Method, req.NoRegistry, req.Chunk, req.Workers, req.InOrder = method, true, 50_000, 1, true
				l := newLoad(t, url, req)
				if _, err := l.Run(ctx); server.ErrorKind(err) != failure.Data || !strings.Contains(err.Error(), name+want) {
					t.Errorf("%s by %s: got %v, want %s%s", name, method, err, name, want)
				}
				l.Close()
			}
			// 1. A table that is to be made is not.
			req := fileRequest("made", path)
			filesOf(req).CreateTable = true
			if _, err := load.New(ctx, loadertest.Open(t, url), req); err == nil || !strings.Contains(err.Error(), name+want) {
				t.Errorf("%s: judged: got %v, want %s%s", name, err, name, want)
			}
			if n := tableRows(t, url, "made"); n != -1 {
				t.Errorf("%s: the table is there, with %d rows", name, n)
			}
			// 2. The encoding that is named reads it.
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, v TEXT)")
			req = fileRequest("t", path)
			filesOf(req).Encoding, req.NoRegistry = "mac", true
			l := newLoad(t, url, req)
			if _, err := l.Run(ctx); err != nil {
				t.Error(err)
			}
			l.Close()
			checkRows(t, table(t, url, "SELECT v FROM t WHERE id = 2"), []string{`"M¸ller"|`})
		}
		// 3. Where bad records are set aside it is one of them.
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, v TEXT)")
		req := fileRequest("t", write(t, "y.csv", text))
		filesOf(req).MaxErrors = files.Tolerance{Records: 1}
		l := newLoad(t, url, req)
		if _, err := l.Run(ctx); err != nil {
			t.Error(err)
		}
		checkRows(t, table(t, url, "SELECT line::TEXT, code, reason FROM loader.rejects"), []string{`"20002"|"22021"|"byte 120008 is 0xfc, which is not UTF-8"|`})
		if n := tableRows(t, url, "t"); n != 20_001 {
			t.Errorf("the table has %d rows", n)
		}
	})
}

// wideText returns text in UTF-16 without a byte order mark.
func wideText(text string, e unicode.Endianness) string {
	s, err := unicode.UTF16(e, unicode.IgnoreBOM).NewEncoder().String(text)
	if err != nil {
		panic(err)
	}
	return s
}
