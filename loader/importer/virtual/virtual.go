// Package virtual makes virtual files of the rows of a load: their bytes are computed while
// they are read, the same each time. It writes nothing to disk.
package virtual

import (
	"context"
	"errors"
	"io"
	"sort"
	"sync"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/rows"
)

// A File is a virtual file with the rows of one part of a load. One reader reads it at a time: a
// new reader ends the previous one. It is safe for concurrent use.
type File struct {
	Source loader.Source
	Range  chunker.Range // of the load's positions; begins and ends between two rows
	Format Format

	reading sync.Mutex // held by the reader

	mu    sync.Mutex // guards the fields below
	stop  context.CancelFunc
	marks []mark // where spans begin, in order
	size  int64  // of the whole file, when it is known
	known bool
}

// A mark is a known place in a File, from which a reader can begin.
type mark struct {
	position int64 // in the load
	offset   int64 // in the file
	rows     int64 // in front of it
}

// spanRows is the number of rows that are computed at once.
const spanRows = 4096

// Write writes the file from byte offset from on. It ends an earlier Write first: a client that
// reads again has given up its first attempt. Where w has a method Abort, it is called to end a
// write that nobody reads. The error is a *SourceError of the source, w's, or ctx's.
func (t *File) Write(ctx context.Context, w io.Writer, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	if t.stop != nil {
		t.stop()
	}
	t.stop = cancel
	t.mu.Unlock()
	if a, ok := w.(interface{ Abort() }); ok {
		defer context.AfterFunc(ctx, a.Abort)()
	}
	t.reading.Lock()
	defer t.reading.Unlock()
	return t.write(ctx, w, from)
}

// GiveUp ends the running Write, if there is one.
func (t *File) GiveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stop != nil {
		t.stop()
	}
}

// A SourceError says that the source could not make the rows.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

func (t *File) write(ctx context.Context, w io.Writer, from int64) error {
	at := t.before(func(m mark) bool { return m.offset <= from })
	c := rows.NewChunk(t.Source.Columns())
	spans := loader.Cut(t.Source, chunker.Range{First: at.position, End: t.Range.End})
	var buf []byte
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		span, err := spans.Next(spanRows)
		if errors.Is(err, io.EOF) {
			t.end(at)
			return nil
		}
		if err == nil {
			if err = t.Source.Fill(c, span); err == nil {
				buf = t.Format.append(buf[:0], c)
			}
			t.release(span)
		}
		if err != nil {
			return &SourceError{err}
		}
		skip := min(max(from-at.offset, 0), int64(len(buf)))
		if _, err := w.Write(buf[skip:]); err != nil {
			return err
		}
		at = mark{span.End(), at.offset + int64(len(buf)), at.rows + int64(c.Len())}
		t.mark(at)
	}
}

// before returns the last mark that fits. Marks are in order.
func (t *File) before(fits func(mark) bool) mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := sort.Search(len(t.marks), func(i int) bool { return !fits(t.marks[i]) }); i > 0 {
		return t.marks[i-1]
	}
	return mark{position: t.Range.First}
}

// markEvery is the minimum number of bytes between two marks. A reader that starts between two
// marks computes up to about that many bytes in vain.
const markEvery = 1 << 20

func (t *File) mark(m mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.marks); n == 0 && m.offset >= markEvery || n > 0 && m.offset-t.marks[n-1].offset >= markEvery {
		t.marks = append(t.marks, m)
	}
}

// end notes the size of the file.
func (t *File) end(at mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size, t.known = at.offset, true
	if n := len(t.marks); n == 0 || t.marks[n-1].offset < at.offset {
		t.marks = append(t.marks, at)
	}
}

// Position returns about the position in the load up to which the file was read.
func (t *File) Position() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.marks); n > 0 {
		return t.marks[n-1].position
	}
	return t.Range.First
}

// Rows returns the number of rows of the file; false: it was not read to its end yet.
func (t *File) Rows() (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		return 0, false
	}
	if n := len(t.marks); n > 0 {
		return t.marks[n-1].rows, true
	}
	return 0, true
}

// Size returns the length of the file in bytes. It computes the rows that were not read yet.
func (t *File) Size(ctx context.Context) (int64, error) {
	if n, ok := t.SizeKnown(); ok {
		return n, nil
	}
	last := t.before(func(mark) bool { return true })
	if err := t.Write(ctx, io.Discard, last.offset); err != nil {
		return 0, err
	}
	n, _ := t.SizeKnown()
	return n, nil
}

// SizeKnown returns the length of the file in bytes; false: it was not read to its end yet.
func (t *File) SizeKnown() (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size, t.known
}

// Place says where a row of the file, counted from 1, came from; false: that is not known.
func (t *File) Place(row int64) (rows.Place, bool) {
	at := t.before(func(m mark) bool { return m.rows < row })
	c := rows.NewChunk(t.Source.Columns())
	spans := loader.Cut(t.Source, chunker.Range{First: at.position, End: t.Range.End})
	for {
		span, err := spans.Next(spanRows)
		if err != nil {
			return rows.Place{}, false
		}
		if t.Source.Fill(c, span) != nil || c.Origin == nil {
			t.release(span)
			return rows.Place{}, false
		}
		first := at.rows + 1
		at.rows += int64(c.Len())
		var place rows.Place
		if row <= at.rows {
			place = c.Origin.Place(int(row - first))
		}
		if t.release(span); row <= at.rows {
			return place, true
		}
	}
}

// release lets the source free the data of a span that was written or read.
func (t *File) release(span chunker.Span) {
	if h, ok := t.Source.(loader.Holder); ok {
		h.Done(span)
	}
}

// A Format is how rows are written for IMPORT INTO.
type Format string

// The formats.
const (
	// CSV is for numbers, which need neither quotes nor NULL, and for files of people.
	CSV Format = "CSV"
	// PGCopy is COPY's text format. It distinguishes NULL from an empty text and keeps every byte.
	// IMPORT's reader of CSV does neither: on 21.1.5 it reads "" as an empty field, and CRLF within
	// quotes as LF.
	PGCopy Format = "PGCOPY"
)

// append writes the rows of a chunk.
func (f Format) append(buf []byte, c *rows.Chunk) []byte {
	if f == PGCopy {
		return c.AppendCopyText(buf, '\t')
	}
	return c.AppendCSV(buf)
}

// Parts cuts a range of a load into n virtual files of about the same length, or fewer if the range
// is too small. fit, when not nil, moves the end of a range to a place between two rows.
func Parts(src loader.Source, f Format, whole chunker.Range, n int, fit func(chunker.Range) (chunker.Range, error)) ([]*File, error) {
	var list []*File
	for at := whole.First; at < whole.End; {
		left := int64(max(n-len(list), 1))
		r := chunker.Range{First: at, End: at + (whole.End-at+left-1)/left}
		if fit != nil && r.End < whole.End {
			var err error
			if r, err = fit(r); err != nil {
				return nil, err
			}
			r.End = min(r.End, whole.End)
		}
		list = append(list, &File{Source: src, Range: r, Format: f})
		at = r.End
	}
	return list, nil
}

// An Option is an option in the WITH clause of an IMPORT INTO: key = 'value'.
type Option struct{ Key, Value string }
