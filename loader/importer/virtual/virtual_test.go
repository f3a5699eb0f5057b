package virtual_test

import (
	"bytes"
	"context"
	stdcsv "encoding/csv"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/rows"
)

const testRows = 50_000

func points() dataset.PointSource {
	return dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: dataset.MinKeyBase, Rows: testRows}}
}

// whole returns the bytes of a text from an offset on.
func whole(t *testing.T, x *virtual.File, from int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := x.Write(context.Background(), &b, from); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parts(t *testing.T, n int) []*virtual.File {
	t.Helper()
	list, err := virtual.Parts(points(), virtual.CSV, chunker.Range{End: testRows}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPartsAreTheRowsInOrder(t *testing.T) {
	for _, n := range []int{1, 3, 7} {
		list := parts(t, n)
		if len(list) != n {
			t.Fatalf("got %d parts, want %d", len(list), n)
		}
		var all []byte
		for _, x := range list {
			all = append(all, whole(t, x, 0)...)
		}
		got, err := stdcsv.NewReader(bytes.NewReader(all)).ReadAll()
		if err != nil || len(got) != testRows {
			t.Fatalf("got %d records, %v; want %d", len(got), err, testRows)
		}
		last := int64(0)
		for _, r := range got {
			id, err := strconv.ParseInt(r[0], 10, 64)
			if err != nil || id <= last {
				t.Fatalf("key %q behind %d: keys of parts must ascend", r[0], last)
			}
			last = id
		}
	}
}

func TestTextIsTheSameFromAnyOffset(t *testing.T) {
	x := parts(t, 1)[0]
	all := whole(t, x, 0)
	for _, from := range []int64{0, 1, 4095, 1 << 20, 1<<20 + 1, int64(len(all)) - 1, int64(len(all)), int64(len(all)) + 5} {
		want := all[min(from, int64(len(all))):]
		if got := whole(t, x, from); !bytes.Equal(got, want) {
			t.Errorf("from %d: got %d bytes, want %d", from, len(got), len(want))
		}
	}
	fresh := parts(t, 1)[0]
	if got := whole(t, fresh, 12345); !bytes.Equal(got, all[12345:]) {
		t.Error("a text that was never read begins elsewhere at an offset")
	}
	if n, err := parts(t, 1)[0].Size(context.Background()); err != nil || n != int64(len(all)) {
		t.Errorf("got size %d, %v; want %d", n, err, len(all))
	}
	if n, ok := x.Rows(); !ok || n != testRows {
		t.Errorf("got %d rows, %v", n, ok)
	}
}

// csvFile returns a source of a file of two columns of text.
func textColumn(name string) rows.Column {
	return rows.Column{Name: name, Kind: rows.Text, Type: "TEXT"}
}

func csvFile(t *testing.T, text string) *files.CSV {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	in := files.NewInput(os.Stdin)
	list, err := in.Inspect(context.Background(), []string{path}, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &files.CSV{Files: list, Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 2, Input: in, SpanBytes: 64}
	s.Cols = append(s.Cols, textColumn("a"), textColumn("b"))
	s.Fields = []int{0, 1}
	t.Cleanup(s.Close)
	return s
}

func TestPGCopyTellsNullFromEmptyAndKeepsEveryByte(t *testing.T) {
	src := csvFile(t, "a,\nb,\"\"\n\"x\ty\r\nz\",\\N\n")
	list, err := virtual.Parts(src, virtual.PGCopy, chunker.Range{End: src.Positions()}, 1, src.Fit)
	if err != nil {
		t.Fatal(err)
	}
	want := "a\t\\N\nb\t\nx\\ty\\r\\nz\t\\\\N\n"
	if got := string(whole(t, list[0], 0)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPartsOfAFileEndBetweenRecords(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		b.WriteString(strconv.Itoa(i) + ",\"line\nand, another " + strconv.Itoa(i) + "\"\n")
	}
	want := ""
	for _, n := range []int{1, 2, 5, 16} {
		src := csvFile(t, b.String())
		list, err := virtual.Parts(src, virtual.PGCopy, chunker.Range{End: src.Positions()}, n, src.Fit)
		if err != nil {
			t.Fatal(err)
		}
		if n > 1 && len(list) < 2 {
			t.Errorf("%d parts wanted, got %d", n, len(list))
		}
		got := ""
		var rows int64
		for _, x := range list {
			got += string(whole(t, x, 0))
			r, _ := x.Rows()
			rows += r
		}
		if rows != 2000 {
			t.Errorf("%d parts hold %d rows, want 2000", n, rows)
		}
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%d parts hold other text than one", n)
		}
	}
}

func TestPlaceOfARow(t *testing.T) {
	src := csvFile(t, "1,\"two\nlines\"\n2,b\n3,c\n")
	list, err := virtual.Parts(src, virtual.PGCopy, chunker.Range{End: src.Positions()}, 1, src.Fit)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := list[0].Place(3); !ok || at.Line != 4 {
		t.Errorf("got %v, %v; want line 4", at, ok)
	}
	if _, ok := list[0].Place(4); ok {
		t.Error("a row that is not there has a place")
	}
}

// holding counts the spans of a CSV source that were filled and not released.
type holding struct {
	*files.CSV
	held int
}

func (h *holding) Fill(c *rows.Chunk, span chunker.Span) error {
	h.held++
	return h.CSV.Fill(c, span)
}

func (h *holding) Done(span chunker.Span) {
	h.held--
	h.CSV.Done(span)
}

// TestReadingReleasesItsSpans looks for rows, and writes: a source that holds its spans, as
// a stream does, is told of each that is not needed any more.
func TestReadingReleasesItsSpans(t *testing.T) {
	good := strings.Repeat("1,a\n", 20_000)
	for _, text := range []string{good, good + "1,a,b\n"} { // the last record cannot be parsed
		src := csvFile(t, text)
		src.SpanBytes = 4096
		h := &holding{CSV: src}
		file := virtual.File{Source: h, Range: chunker.Range{End: src.Positions()}, Format: virtual.CSV}
		for _, row := range []int64{15_000, 30_000} {
			if _, ok := file.Place(row); ok != (row < 20_000) || h.held != 0 {
				t.Errorf("looking for row %d: found %v, %d spans are held", row, ok, h.held)
			}
		}
		if err := file.Write(context.Background(), io.Discard, 0); (err == nil) != (text == good) || h.held != 0 {
			t.Errorf("writing: %v, %d spans are held", err, h.held)
		}
	}
}

func TestASlowReaderIsEndedByTheNext(t *testing.T) {
	x := parts(t, 1)[0]
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- x.Write(context.Background(), abortable{w}, 0) }()
	one := make([]byte, 1)
	if _, err := io.ReadFull(r, one); err != nil { // it is at work, and then nobody reads
		t.Fatal(err)
	}
	if got := whole(t, x, 0); len(got) == 0 {
		t.Error("the second reader got nothing")
	}
	if err := <-first; err == nil {
		t.Error("the first reader was not ended")
	}
}

// abortable is a writer that nobody need read.
type abortable struct{ *io.PipeWriter }

func (a abortable) Abort() { a.CloseWithError(context.Canceled) }
