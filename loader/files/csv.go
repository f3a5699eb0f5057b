package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgerrcode"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/rows"
)

// A CSV is a source of the rows of CSV files. Its positions are the bytes of the first file,
// then those of the next. It is also the loader.Cutter of these positions. It is safe for
// concurrent use; Close it after use.
type CSV struct {
	Files   []File
	Dialect csv.Dialect
	// Width is the number of fields of a record.
	Width int
	// Cols are the columns of chunks, of kind rows.Text; column i is field
	// Fields[i] of the record.
	Cols   []rows.Column
	Fields []int
	// SpanBytes is the size at which a span ends. Zero is defaultSpanBytes.
	SpanBytes int
	// SpanRows is the number of rows per span that callers of Cut will ask for, so that Fit can
	// cut these spans already. Zero: Fit cuts by SpanBytes alone.
	SpanRows int64
	// SpansTogether is the number of spans that are under way at once to a far server; zero if
	// the server is near. Each announcement then covers so many.
	SpansTogether int
	// MaxRecordBytes bounds a record, and so the damage of one unclosed quote. Zero is
	// DefaultMaxRecordBytes.
	MaxRecordBytes int
	// Tolerate adds a record that does not parse to the chunk's Rejects instead of returning an
	// error.
	Tolerate bool
	// Raw leaves chunks unparsed; see rows.Chunk.SetRaw. Every field is then a
	// column, in order.
	Raw bool
	// Tail says that a delimiter follows the last field of each record. ShortRows reads a
	// missing end of a record as NULL fields.
	Tail, ShortRows bool
	// Expected are the forms that values must have, by field. Where a type was guessed from the
	// first records, it is their form. Zero is any.
	Expected []Form
	// Guard finds quoted fields that may hold whole records.
	Guard Guard
	// Input opens the files.
	Input *Input

	mu      sync.Mutex
	ended   error             // the cause that Interrupt got
	stopped chan struct{}     // closed by Interrupt; see over
	open    map[int]*openFile // plain files, by their index
	uses    int64             // counts uses of plain files
	hung    map[int]int       // by file: uses that were abandoned and have not ended
	streams map[int]*stream
	held    map[int64]heldSpan
	lines   map[int][]mark
	cuts    map[int64][]chunker.Span // cached by Fit, by the First of its range
	buf     []byte                   // spare memory for cutting, or nil
	ahead   []byte                   // spare memory for Ahead, or nil
}

// Defaults of CSV, in bytes.
const (
	defaultSpanBytes      = 1 << 20
	DefaultMaxRecordBytes = 4 << 20
)

// A DataError reports a bad record and its position.
type DataError struct {
	rows.Place
	Reason string
}

// ErrorKind implements failure.Kinded.
func (e *DataError) ErrorKind() failure.Kind { return failure.Data }

func (e *DataError) Error() string { return fmt.Sprintf("%s: %s", e.Place, e.Reason) }

// Positions returns the size of the load.
func (s *CSV) Positions() int64 {
	if len(s.Files) == 0 {
		return 0
	}
	return s.Files[len(s.Files)-1].End()
}

// Columns implements loader.Source.
func (s *CSV) Columns() []rows.Column { return s.Cols }

// Interrupt ends reads of streams with cause, also reads that wait for a pipe or a network.
// Held spans and plain files can still be cut and filled, unless a read of a plain file hangs.
func (s *CSV) Interrupt(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = cause
		if s.stopped != nil {
			close(s.stopped)
		}
	}
	for _, t := range s.streams {
		t.cancel(cause)
	}
}

// interrupted returns the cause that Interrupt got, or nil.
func (s *CSV) interrupted() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Close ends all reading.
func (s *CSV) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		if f.File != nil { // else it is being opened
			f.File.Close()
		}
	}
	for _, t := range s.streams {
		t.Close()
	}
	s.open, s.streams, s.held = nil, nil, nil
}

// file returns the file that holds a position.
func (s *CSV) file(position int64) (int, *File) {
	i := sort.Search(len(s.Files), func(i int) bool { return s.Files[i].End() > position })
	return i, &s.Files[i]
}

// unchanged returns ErrChanged if the file was written to after its inspection: a growing file
// may end in the middle of a record.
func (s *CSV) unchanged(f *os.File, i int) error {
	info, err := f.Stat()
	if err != nil {
		return failure.Reading(s.Files[i].Name, err)
	}
	switch was := &s.Files[i]; {
	case info.Size() != was.Bytes:
		return failure.Reading(was.Name, fmt.Errorf("%w: it has %d bytes and had %d", ErrChanged, info.Size(), was.Bytes))
	case !info.ModTime().Equal(was.Modified):
		return failure.Reading(was.Name, fmt.Errorf("%w: it was written to", ErrChanged))
	}
	return nil
}

func (s *CSV) spanBytes() int {
	if s.SpanBytes > 0 {
		return s.SpanBytes
	}
	return defaultSpanBytes
}

func (s *CSV) maxRecord() int {
	if s.MaxRecordBytes > 0 {
		return s.MaxRecordBytes
	}
	return DefaultMaxRecordBytes
}

// A record is the position of a row's record in the origin's text.
type record struct{ start, end int }

// origin is the text of a chunk; see rows.Origin.
type origin struct {
	src     *CSV
	span    chunker.Span
	skipped int64 // bytes of the span in front of raw
	raw     []byte
	invalid bool // raw is not UTF-8
	records []record
	fields  []csv.Field
	text    []byte
	other   []csv.Field // fields in another order
}

func (o *origin) Record(i int) []byte { return o.raw[o.records[i].start:o.records[i].end] }

func (o *origin) Place(i int) rows.Place { return o.place(o.records[i].start) }

// place returns the place of byte at of raw.
func (o *origin) place(at int) rows.Place {
	i, f := o.src.file(o.span.First)
	p := rows.Place{File: f.Base(), Position: o.span.First + o.skipped + int64(at)}
	p.Byte = p.Position - f.First
	line := o.span.Line
	if line == 0 {
		line = o.src.line(i, p.Byte-int64(at))
	}
	p.Line = line + o.src.Dialect.CountLines(o.raw[:at])
	return p
}

// Fill implements loader.Source.
func (s *CSV) Fill(c *rows.Chunk, span chunker.Span) error {
	o, ok := c.Origin.(*origin)
	if !ok {
		o = &origin{src: s}
		c.Origin = o
	}
	c.Reset(span, 0)
	o.span, o.records = span, o.records[:0]
	if err := s.read(o); err != nil {
		return err
	}
	o.invalid = !utf8.Valid(o.raw)
	if s.Raw && s.Expected == nil && len(o.raw) <= s.maxRecord() && !o.invalid && !s.Rewrites(o.raw) {
		c.SetRaw(o.raw, int(span.Rows), func() error { return s.parse(c, o) })
		return nil
	}
	return s.parse(c, o)
}

// parse fills the chunk's columns from the origin's text.
func (s *CSV) parse(c *rows.Chunk, o *origin) error {
	scan := csv.Scanner{Dialect: s.Dialect, Buf: o.raw, EOF: true}
	for at := 0; at < len(o.raw); at = scan.At {
		var err error
		code := pgerrcode.BadCopyFileFormat
		if !scan.Skip(scan.Rows+1, math.MaxInt) {
			err = s.unclosed(o.span)
			scan.At = len(o.raw)
		} else if scan.At-at > s.maxRecord() {
			err = fmt.Errorf("a record of more than %d bytes (--max-record-bytes)", s.maxRecord())
		} else if o.invalid && !utf8.Valid(o.raw[at:scan.At]) {
			err, code = s.notUTF8(o, at, scan.At), pgerrcode.CharacterNotInRepertoire
		} else {
			o.fields, o.text, err = s.Dialect.Fields(o.raw[at:scan.At], o.fields[:0], o.text[:0])
			if err == nil {
				o.fields = s.shaped(s.ordered(o))
			}
			switch {
			case err == nil && len(o.fields) != s.Width:
				err = s.widthError(o.fields)
			case err == nil && s.unexpected(o.fields) >= 0:
				err = s.unexpectedError(o.fields)
			case err != nil:
				err = fieldsError(err, o.raw[at:scan.At], s.Dialect)
			case s.Guard.swallows(o.raw[at:scan.At], s.Dialect, s.Width):
				err = errSwallowed
			}
		}
		if err != nil {
			if !s.Tolerate {
				return &DataError{o.place(at), err.Error()}
			}
			c.Rejects = append(c.Rejects, rows.Reject{Place: o.place(at), Record: bytes.Clone(o.raw[at:scan.At]), Code: code, Reason: err.Error()})
			continue
		}
		for i, field := range s.Fields {
			if v := &o.fields[field]; v.Null {
				c.Col(i).AppendNull()
			} else {
				c.Col(i).AppendText(v.Text)
			}
		}
		o.records = append(o.records, record{at, scan.At})
	}
	c.SetLen(len(o.records))
	return nil
}

// notUTF8 returns the error of the record from byte at to byte end of the origin's text. Where bad
// records are rejects it offers no encodings: the file has its own.
func (s *CSV) notUTF8(o *origin, at, end int) error {
	text := o.raw[at:]
	if s.Tolerate {
		text = nil
	}
	return recordNotUTF8(o.raw[at:end], o.place(at).Byte, text)
}

// Rewrites reports whether records must be rewritten for PostgreSQL's COPY, which would read
// them differently: a quote stands within a field, or the first line has a CR that COPY may
// take for the line's end. Records are also rewritten where a quoted field may hold whole
// records, because nobody can tell which reading is right.
func (s *CSV) Rewrites(text []byte) bool {
	if i := bytes.IndexByte(text, '\r'); i >= 0 && !s.Dialect.CR && !bytes.HasPrefix(text[i+1:], []byte{'\n'}) {
		return true
	}
	scan := csv.Scanner{Dialect: s.Dialect, Buf: text, EOF: true}
	for scan.Skip(math.MaxInt64, math.MaxInt) {
	}
	return scan.Stray || scan.Multiline && s.Guard.On
}

// unclosed returns the error of a span whose only record does not end.
func (s *CSV) unclosed(span chunker.Span) error {
	_, f := s.file(span.First)
	if span.End() == f.End() || !f.Stream && f.End()-span.First <= int64(s.maxRecord()) {
		return fmt.Errorf("%w before the end of the file; the record begins here; --quote none reads quotes as text", csv.ErrUnclosed)
	}
	return fmt.Errorf("%w within the %d bytes of a record (--max-record-bytes); the record begins here; --quote none reads quotes as text", csv.ErrUnclosed, s.maxRecord())
}

// read reads the text of the origin's span into raw, from the first record on.
func (s *CSV) read(o *origin) error {
	i, f := s.file(o.span.First)
	o.skipped = 0
	if o.span.First == f.First {
		o.skipped = f.Data
	}
	if f.Stream {
		s.mu.Lock()
		held, ok := s.held[o.span.First]
		s.mu.Unlock()
		if !ok {
			return fmt.Errorf("bytes %s of %s are no longer in memory", o.span, f.Name)
		}
		o.raw = held.data
		return nil
	}
	n := o.span.Count - o.skipped
	if limit := int64(s.maxRecord()); o.span.Rows == 1 && n > limit {
		n = limit + 1 // a line longer than any record: its beginning suffices
	}
	if int64(cap(o.raw)) < n {
		o.raw = nil // frees the old memory first
		o.raw = make([]byte, max(n, int64(s.spanBytes())+spanSlack))
	}
	o.raw = o.raw[:n]
	raw, at := o.raw, o.span.First+o.skipped-f.First
	left, err := s.use(i, func(file *os.File) error {
		if err := s.unchanged(file, i); err != nil {
			return err
		}
		if _, err := file.ReadAt(raw, at); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: it ends early", ErrChanged)
			}
			return failure.Reading(f.Name, err)
		}
		if o.span.End() == f.End() {
			o.raw = s.withoutBlank(o.raw)
		}
		return nil
	})
	if left {
		o.raw = nil // an abandoned read still writes to it
	}
	return err
}

// Place implements loader.Placer.
func (s *CSV) Place(span chunker.Span) string {
	i, f := s.file(span.First)
	line := span.Line
	if line == 0 && !f.Stream {
		line = s.line(i, span.First-f.First)
	}
	return fmt.Sprintf("%s:%d: chunk of %d rows", f.Base(), line, span.Rows)
}

// Done implements loader.Holder: it frees the text held for the span and for its parts.
func (s *CSV) Done(span chunker.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for first, h := range s.held {
		if first >= span.First && h.span.End() <= span.End() {
			delete(s.held, first)
		}
	}
}

var (
	_ loader.Source = (*CSV)(nil)
	_ loader.Cutter = (*CSV)(nil)
	_ loader.Holder = (*CSV)(nil)
	_ loader.Placer = (*CSV)(nil)
)
