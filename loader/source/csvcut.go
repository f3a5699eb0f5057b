package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"

	"bulkload/chunker"
	"bulkload/loader"
)

// Cut implements loader.Cutter. The spans of a stream are read from it one after the
// other, and their bytes held until Done.
func (s *CSV) Cut(r chunker.Range) loader.Spans {
	var list manySpans
	for r.First < r.End {
		i, f := s.file(r.First)
		part := chunker.Range{First: r.First, End: min(r.End, f.End())}
		list = append(list, func() loader.Spans {
			if cuts := s.kept(part.First); !f.Stream && cuts != nil {
				return &keptSpans{src: s, index: i, cuts: cuts, left: part}
			}
			return s.spans(i, part)
		})
		r.First = part.End
	}
	return &list
}

// manySpans opens one part after the other.
type manySpans []func() loader.Spans

func (m *manySpans) Next(n int64) (chunker.Span, error) {
	for len(*m) > 0 {
		spans := (*m)[0]()
		span, err := spans.Next(n)
		if errors.Is(err, io.EOF) {
			*m = (*m)[1:]
			continue
		}
		(*m)[0] = func() loader.Spans { return spans }
		return span, err
	}
	return chunker.Span{}, io.EOF
}

// keptSpans gives spans that were found before, as long as they are no larger than they
// may be, and cuts the rest.
type keptSpans struct {
	src   *CSV
	index int
	cuts  []chunker.Span
	left  chunker.Range
	rest  *spans
}

func (k *keptSpans) Next(n int64) (chunker.Span, error) {
	if k.rest == nil && k.left.Len() <= 0 {
		return chunker.Span{}, io.EOF
	}
	if len(k.cuts) > 0 && k.rest == nil {
		if span := k.cuts[0]; span.First == k.left.First && span.End() <= k.left.End && span.Rows <= n {
			k.cuts, k.left.First = k.cuts[1:], span.End()
			return span, nil
		}
	}
	if k.rest == nil {
		k.cuts, k.rest = nil, k.src.spans(k.index, k.left)
	}
	return k.rest.Next(n)
}

// spans cuts a range of one file.
type spans struct {
	src    *CSV
	index  int
	file   *File
	in     io.Reader
	stream *stream // that in reads, if it does
	hold   bool    // what was read cannot be read again, and is held until Done
	text   []byte  // that is held and cut again; textAt is its position
	textAt int64

	at, end int64 // what is left, in positions
	line    int64 // at at; zero is unknown
	buf     []byte
	base    int64 // position of buf[0]
	eof     bool  // buf holds all that is left
	err     error
}

// spans begins to cut a range of file i.
func (s *CSV) spans(i int, r chunker.Range) *spans {
	f := &s.Files[i]
	c := &spans{src: s, index: i, file: f, at: r.First, end: r.End, base: r.First}
	if r.First == f.First {
		c.base += f.Data
	}
	if f.Stream {
		c.follow(r)
		return c
	}
	file := plainFile{s, i}
	if r.First == f.First {
		c.line = c.bodyLine(io.NewSectionReader(file, 0, f.Data))
	}
	c.in = io.NewSectionReader(file, c.base-f.First, r.End-c.base)
	return c
}

// bodyLine returns the line of the first record, given what is in front of it.
func (c *spans) bodyLine(r io.Reader) int64 {
	head := make([]byte, c.file.Data)
	if _, err := io.ReadFull(r, head); err != nil {
		c.err = &FileError{c.file.Name, err}
	}
	return 1 + countLines(head)
}

// fill reads until buf holds n bytes or all there is.
func (c *spans) fill(n int) error {
	if c.eof || len(c.buf) >= n {
		return nil
	}
	if c.buf == nil {
		c.buf = c.src.spare()
	}
	if cap(c.buf) < n {
		c.buf = append(make([]byte, 0, n), c.buf...)
	}
	for len(c.buf) < n {
		got, err := c.in.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+got]
		if errors.Is(err, io.EOF) {
			c.eof = true
			return nil
		}
		if err != nil {
			if cause := c.src.interrupted(); cause != nil && c.stream != nil {
				return cause
			}
			var file *FileError
			if errors.As(err, &file) {
				return err
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the compressed data ends early")
			}
			return &FileError{c.file.Name, fmt.Errorf("behind byte %d: %w", c.base+int64(len(c.buf))-c.file.First, err)}
		}
	}
	return nil
}

// free gives the memory of what is read back; c cuts no more.
func (c *spans) free() {
	if c.buf != nil {
		c.src.mu.Lock()
		c.src.buf = c.buf[:0]
		c.src.mu.Unlock()
		c.buf = nil
	}
}

// spare returns memory that free gave back, or nil.
func (s *CSV) spare() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := s.buf
	s.buf = nil
	return buf
}

// Next implements loader.Spans.
func (c *spans) Next(n int64) (chunker.Span, error) {
	if c.err != nil {
		return chunker.Span{}, c.err
	}
	if c.at >= c.end {
		c.free()
		return chunker.Span{}, io.EOF
	}
	size := c.src.spanBytes()
	if err := c.fill(size + spanSlack); err != nil {
		return chunker.Span{}, err
	}
	span := chunker.Span{First: c.at, Line: c.line}
	for {
		scan := chunker.Scanner{Dialect: c.src.Dialect, Buf: c.buf, EOF: c.eof}
		if scan.Skip(n, size) {
			span.Rows = scan.Rows
			return c.take(span, scan.At, scan.Lines), nil
		}
		switch {
		case len(c.buf) == 0: // nothing behind the last record
			return c.take(span, 0, 0), nil
		case !c.eof && len(c.buf) <= c.src.maxRecord():
			// A record longer than a span, or than any may be.
			if err := c.fill(min(2*len(c.buf), c.src.maxRecord()+1)); err != nil {
				return chunker.Span{}, err
			}
			continue
		}
		span.Rows = 1
		return c.broken(span)
	}
}

// spanSlack is how much more than a span is read at a time, so that the record in which
// it ends is mostly at hand.
const spanSlack = 256 << 10

// broken ends the span with the first line, which opens a quote that is not closed or
// goes on beyond every bound. What follows is read as if the line were not there.
func (c *spans) broken(span chunker.Span) (chunker.Span, error) {
	line := chunker.LineLen(c.buf)
	if line < len(c.buf) || c.eof {
		return c.take(span, line, 1), nil
	}
	// The line has no end in sight: it is passed over, but for its beginning.
	kept := bytes.Clone(c.buf)
	for {
		c.base += int64(len(c.buf))
		c.buf = c.buf[:0]
		if err := c.fill(HeadBytes); err != nil {
			return chunker.Span{}, err
		}
		if line := chunker.LineLen(c.buf); line < len(c.buf) || c.eof {
			span = c.take(span, line, 1)
			if c.hold {
				c.src.hold(span, kept)
			}
			return span, nil
		}
	}
}

// take ends the span behind n bytes of buf.
func (c *spans) take(span chunker.Span, n int, lines int64) chunker.Span {
	next := c.base + int64(n)
	if c.eof && n == len(c.buf) {
		next = c.end // of a stream: what is left of its space
	}
	span.Count = next - span.First
	switch {
	case !c.hold:
	case c.text != nil: // a part of what is held already
		at := c.base - c.textAt
		c.src.hold(span, c.text[at:at+int64(n)])
	default:
		c.src.hold(span, bytes.Clone(c.buf[:n]))
	}
	c.at, c.base = next, c.base+int64(n)
	if t := c.stream; t != nil {
		t.line += lines
	}
	c.buf = c.buf[:copy(c.buf, c.buf[n:])]
	if c.line > 0 {
		c.line += lines
	}
	return span
}

// A heldSpan is the text of a span of a stream, until it is committed.
type heldSpan struct {
	span chunker.Span
	data []byte
}

func (s *CSV) hold(span chunker.Span, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[int64]heldSpan{}
	}
	s.held[span.First] = heldSpan{span, data}
}

// A stream is a file that is read once, from its beginning.
type stream struct {
	io.ReadCloser
	cancel context.CancelCauseFunc // ends reads, and the opening
	at     int64                   // decoded bytes that were read
	line   int64                   // at the end of what a spans has taken of it
}

func (t *stream) Close() error {
	t.cancel(nil)
	if t.ReadCloser == nil {
		return nil // was not opened yet
	}
	return t.ReadCloser.Close()
}

func (t *stream) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	t.at += int64(n)
	return n, err
}

// follow makes c read the range from the file's stream: from the bytes that are held
// of it, when it is cut again, else from where the stream stands.
func (c *spans) follow(r chunker.Range) {
	c.hold = true
	if c.again(r) {
		return
	}
	t, err := c.src.stream(c.index, c.base-c.file.First)
	if err != nil {
		c.err = err
		return
	}
	// What comes before is read over; after a stop, a second time.
	buf := make([]byte, HeadBytes)
	for left := c.base - c.file.First - t.at; left > 0; {
		n, err := io.ReadFull(t, buf[:min(left, int64(len(buf)))])
		t.line += countLines(buf[:n])
		left -= int64(n)
		switch cause := c.src.interrupted(); {
		case err == nil:
			continue
		case cause != nil:
			c.err = cause
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c.err = &FileError{c.file.Name, fmt.Errorf("%w: it ends behind byte %d", ErrChanged, t.at)}
		default:
			c.err = &FileError{c.file.Name, fmt.Errorf("behind byte %d: %w", t.at, err)}
		}
		return
	}
	c.line, c.stream = t.line, t
	c.in = io.LimitReader(t, r.End-c.base)
}

// again makes c read what is held of the range, if it is.
func (c *spans) again(r chunker.Range) bool {
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	for _, h := range c.src.held {
		if h.span.First > r.First || r.End > h.span.End() {
			continue
		}
		skipped := c.base - h.span.First
		if h.span.First == c.file.First {
			skipped -= c.file.Data
		}
		c.text, c.textAt = h.data[skipped:], c.base
		c.in = bytes.NewReader(c.text)
		c.line = h.span.Line + countLines(h.data[:skipped])
		return true
	}
	return false
}

// stream returns the stream of file i, not beyond an offset.
func (s *CSV) stream(i int, offset int64) (*stream, error) {
	s.mu.Lock()
	old := s.streams[i]
	if s.ended != nil || old != nil && old.at <= offset {
		defer s.mu.Unlock()
		return old, s.ended
	}
	if s.streams == nil {
		s.streams = map[int]*stream{}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	t := &stream{line: 1, cancel: cancel}
	s.streams[i] = t
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	// Not under the lock, which others need while this waits for a server.
	body, err := s.Input.Open(ctx, &s.Files[i])
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		cancel(nil)
		delete(s.streams, i)
		if s.ended != nil {
			err = s.ended
		}
		return nil, err
	}
	t.ReadCloser = body
	return t, nil
}

// A mark is a line number that is known.
type mark struct{ offset, line int64 }

// line returns the line of a plain file at an offset, counting from the nearest place
// that is known. Zero is unknown.
func (s *CSV) line(i int, offset int64) int64 {
	s.mu.Lock()
	from := mark{0, 1}
	if marks := s.lines[i]; len(marks) > 0 {
		if k := sort.Search(len(marks), func(k int) bool { return marks[k].offset > offset }); k > 0 {
			from = marks[k-1]
		}
	}
	s.mu.Unlock()
	if from.offset == offset {
		return from.line
	}
	r := io.NewSectionReader(plainFile{s, i}, from.offset, offset-from.offset)
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && buf[n-1] == '\r' && err == nil && n > 1 {
			// Whether it is an end of its own, the next byte tells.
			n--
			r.Seek(-1, io.SeekCurrent)
		}
		from.line += countLines(buf[:n])
		if err != nil && !errors.Is(err, io.EOF) {
			return 0
		}
		if err != nil || n == 0 {
			break
		}
	}
	from.offset = offset
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[int][]mark{}
	}
	marks := append(s.lines[i], from)
	sort.Slice(marks, func(a, b int) bool { return marks[a].offset < marks[b].offset })
	s.lines[i] = marks
	return from.line
}

// countLines returns the number of ends of lines in b: LF, CRLF or a lone CR.
func countLines(b []byte) int64 {
	n := int64(bytes.Count(b, []byte{'\n'}))
	for {
		i := bytes.IndexByte(b, '\r')
		if i < 0 {
			return n
		}
		if i+1 == len(b) || b[i+1] != '\n' {
			n++
		}
		b = b[i+1:]
	}
}
