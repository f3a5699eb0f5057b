package load_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// TestTextGoesToCopyAsItIs loads text that PostgreSQL's COPY reads as loader does, and
// text that it would read otherwise, as it is and parsed: the same rows.
func TestTextGoesToCopyAsItIs(t *testing.T) {
	ctx := context.Background()
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	srv := loadertest.Open(t, url)
	texts := []string{
		"a\n\nb", "\"a\nb\"\nc\n", "a\n\\.\nb\n", "\\.\na\n", "a\nb\r\n", "N\n\"N\"\nNN\n",
	}
	if loadertest.Chaos {
		texts = append(texts,
			"a\nb\n", "a\"b\nc\"d\n", `"a""b"`+"\n\"\"\n",
			"a\n\\.", "a\\.\nb\n", // the end of data, until 17
			"a\r\nb\n", "a\rb\n", "a\nb\rc\n", "\"a\rb\"\nc\n") // which COPY mixes not
	}
	for _, text := range texts {
		var got [2][]string
		for i, via := range []commit.Method{commit.Copy, commit.Insert} {
			exec(t, url, "DROP TABLE IF EXISTS lines; CREATE TABLE lines (line TEXT)")
			req := fileRequest("lines", write(t, "lines.csv", text))
			req.Method, filesOf(req).Header, filesOf(req).Null = via, files.HeaderNo, "N"
			l, err := load.New(ctx, srv, req)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if raw := l.Dataset.Source().(*files.CSV).Raw; raw != (via == commit.Copy) {
				t.Fatalf("via %s: raw is %t", via, raw)
			}
			if _, err := l.Run(ctx); err != nil {
				t.Errorf("%q via %s: %v", text, via, err)
			}
			l.Close()
			got[i] = table(t, url, "SELECT line FROM lines")
		}
		if a, b := strings.Join(got[0], ""), strings.Join(got[1], ""); a != b {
			t.Errorf("%q: COPY gives %s, parsed it is %s", text, a, b)
		}
	}
}

// TestWholeChunksStayText holds that chunks of the automatic size are not parsed on the
// way to COPY, also those that end behind their limit.
func TestWholeChunksStayText(t *testing.T) {
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	exec(t, url, "CREATE TABLE lines (a TEXT, b TEXT)")
	l := newLoad(t, url, fileRequest("lines", write(t, "lines.csv", "a,b\n"+strings.Repeat("12345,\"some text\"\n", 3_000_000))))
	src := l.Dataset.Source().(*files.CSV)
	r, err := src.Fit(chunker.Range{End: l.Dataset.Size().Positions})
	if err != nil {
		t.Fatal(err)
	}
	spans, c := src.Cut(r), rows.NewChunk(src.Columns())
	var n, bytes int64
	for {
		span, err := spans.Next(l.Plan.RowsPerChunk)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = src.Fill(c, span)
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Raw() == nil {
			t.Errorf("span %s of %d rows was parsed", span, span.Rows)
		}
		n, bytes = n+span.Rows, bytes+span.Count
	}
	if n != 3_000_000 || bytes != l.Dataset.Size().Positions {
		t.Errorf("%d rows in %d bytes, want 3000000 in %d", n, bytes, l.Dataset.Size().Positions)
	}
}
