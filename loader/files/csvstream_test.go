package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// streamOf returns a source of the text on standard input, in spans of as many bytes.
func streamOf(t *testing.T, text string, bytes int) *files.CSV {
	t.Helper()
	in := files.NewInput(strings.NewReader(text))
	list, err := in.Inspect(context.Background(), []string{files.Stdin}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &files.CSV{
		Files: list, Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 2, SpanBytes: bytes, Input: in,
		Cols: []rows.Column{{Name: "a", Kind: rows.Text}, {Name: "b", Kind: rows.Text}}, Fields: []int{0, 1},
	}
	t.Cleanup(s.Close)
	return s
}

// TestHalvesOfAStreamAreLetGo commits chunks of a stream in halves and quarters: when a
// chunk is done, nothing of it is held any more, and until then its parts have its rows.
func TestHalvesOfAStreamAreLetGo(t *testing.T) {
	var text strings.Builder
	const n = 400
	for i := range n {
		fmt.Fprintf(&text, "%d,\"%s\n\"\r\n", i, strings.Repeat("x", i%50))
	}
	s := streamOf(t, text.String(), 1<<20)
	c := rows.NewChunk(s.Cols)
	next := 0 // row
	// check fills a span, or its parts, of at most size rows.
	var check func(span chunker.Span, size int64)
	check = func(span chunker.Span, size int64) {
		if span.Rows > size {
			// The parts may not divide the whole: they end with it all the same.
			end := span.First
			for _, part := range spansOf(t, s.Cut(span.Range()), func() int64 { return (span.Rows + 1) / 2 * 4 / 5 }) {
				check(part, size)
				end = part.End()
			}
			if end != span.End() {
				t.Fatalf("the parts of span %s end at %d", span, end)
			}
			return
		}
		if err := s.Fill(c, span); err != nil {
			t.Fatal(err)
		}
		for i := range c.Len() {
			if got, _ := c.Col(0).Text(i); string(got) != fmt.Sprint(next) {
				t.Fatalf("span %s: row %q, want %d", span, got, next)
			}
			if got, want := c.Origin.Place(i).Line, int64(2*next+1); got != want {
				t.Fatalf("span %s: row %d is on line %d, want %d", span, next, got, want)
			}
			next++
		}
	}
	cut := s.Cut(chunker.Range{End: s.Positions()})
	for _, span := range spansOf(t, cut, func() int64 { return 100 }) {
		check(span, 30)
		s.Done(span)
	}
	if next != n || s.Held() != 0 {
		t.Errorf("%d rows of %d, and %d spans are still held", next, n, s.Held())
	}
}

// TestSilentServerIsGivenUp asks a server that sends nothing, before its answer or behind
// some bytes of the file: one line says so.
func TestSilentServerIsGivenUp(t *testing.T) {
	for _, sent := range []int{0, 10} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if sent > 0 {
				io.WriteString(w, strings.Repeat("x", sent))
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}))
		in := files.NewInput(nil)
		in.IdleTimeout = 300 * time.Millisecond
		_, err := in.Inspect(context.Background(), []string{server.URL + "/x.csv"}, "")
		var file *files.FileError
		if want := server.URL + "/x.csv: the server has sent nothing for 300ms"; !errors.As(err, &file) || err.Error() != want {
			t.Errorf("behind %d bytes: got %v, want %s", sent, err, want)
		}
		server.Close()
	}
}
