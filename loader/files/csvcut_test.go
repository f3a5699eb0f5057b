package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// csvOf returns a source of one file with the given text and spans.
func csvOf(t *testing.T, text string, bytes int, rows int64) *files.CSV {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	in := files.NewInput(strings.NewReader(""))
	list, err := in.Inspect(context.Background(), []string{path}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &files.CSV{Files: list, Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 2, SpanBytes: bytes, SpanRows: rows, Input: in}
	t.Cleanup(s.Close)
	return s
}

// spansOf returns all that is left of spans, asking for as many rows as next says.
func spansOf(t *testing.T, spans loader.Spans, next func() int64) []chunker.Span {
	t.Helper()
	var list []chunker.Span
	for {
		span, err := spans.Next(next())
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, span)
	}
}

// TestCutAfterFit holds that what Fit found before makes no difference to the spans, and
// that smaller ones can still be asked for at any moment.
func TestCutAfterFit(t *testing.T) {
	var text strings.Builder
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		fmt.Fprintf(&text, "%d,\"%s\n\"\r\n", i, strings.Repeat("x", rng.IntN(60)))
	}
	for _, rows := range []int64{1, 7, 100, 4999, 1 << 40} {
		const spanBytes = 3000
		most := func() int64 { return rows }
		fresh := csvOf(t, text.String(), spanBytes, 0)
		end := fresh.Positions()
		want := spansOf(t, fresh.Cut(chunker.Range{End: end}), most)
		fitted := csvOf(t, text.String(), spanBytes, rows)
		var got []chunker.Span
		for at := int64(0); at < end; {
			r, err := fitted.Fit(chunker.Range{First: at, End: min(at+20_000, end)})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, spansOf(t, fitted.Cut(r), most)...)
			at = r.End
		}
		// A span of a range that Fit ended may have been a longer one.
		at := int64(0)
		for _, s := range got {
			if s.First != at || s.Rows > rows {
				t.Fatalf("%d rows: span %+v after byte %d", rows, s, at)
			}
			at = s.End()
		}
		if at != end || rows <= 100 && !slices.EqualFunc(got, want, func(a, b chunker.Span) bool { return a.Range() == b.Range() && a.Rows == b.Rows }) {
			t.Errorf("%d rows: %d spans up to %d after Fit, %d without", rows, len(got), at, len(want))
		}
		// Fewer rows from some span on.
		again := csvOf(t, text.String(), spanBytes, rows)
		r, err := again.Fit(chunker.Range{End: end})
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		next := func() int64 {
			if asked++; asked > 3 {
				return max(rows/3, 1)
			}
			return rows
		}
		var total int64
		at = 0
		for _, s := range spansOf(t, again.Cut(r), next) {
			if s.First != at {
				t.Fatalf("span %+v after byte %d", s, at)
			}
			at, total = s.End(), total+s.Rows
		}
		if at != end || total != 5000 {
			t.Errorf("%d rows, then fewer: %d rows up to %d, want 5000 up to %d", rows, total, at, end)
		}
	}
}

// TestRecordsHaveALongestLength has a record that is longer than any may be: it is named,
// and the text behind it is not read in search of its end.
func TestRecordsHaveALongestLength(t *testing.T) {
	const most = 64 << 10
	for _, test := range []struct {
		bytes int // of the record
		want  string
		span  int64 // that the error is in: its first line, where no end was found
	}{
		{most / 2, "", 0},
		{2 * most, "x.csv:2: a record of more than 65536 bytes", 2*most + 9},
		{20 * most, "x.csv:2: a quote is not closed within the 65536 bytes of a record", 7},
	} {
		s := csvOf(t, "1,a\n2,\""+strings.Repeat("xxx\n", test.bytes/4)+"\"\n3,c\n", 3000, 0)
		s.MaxRecordBytes, s.Fields = most, []int{0, 1}
		cut := s.Cut(chunker.Range{End: s.Positions()})
		c := rows.NewChunk([]rows.Column{{Name: "a", Kind: rows.Text}, {Name: "b", Kind: rows.Text}})
		var err error
		var span chunker.Span
		for err == nil {
			if span, err = cut.Next(1 << 40); err == nil {
				err = s.Fill(c, span)
			}
		}
		if errors.Is(err, io.EOF) && test.want == "" {
			continue
		}
		if test.want == "" || !strings.HasPrefix(err.Error(), test.want) || span.Count != test.span {
			t.Errorf("a record of %d bytes: got %v, in a span of %d bytes; want %q, in one of %d", test.bytes, err, span.Count, test.want, test.span)
		}
	}
}
