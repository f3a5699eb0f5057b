package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/failure"
)

// Cut implements loader.Cutter. The spans of a stream are read in order, and their text is held
// until Done.
func (s *CSV) Cut(r chunker.Range) loader.Spans {
	var list manySpans
	for r.First < r.End {
		i, f := s.file(r.First)
		part := chunker.Range{First: r.First, End: min(r.End, f.End())}
		list = append(list, func() loader.Spans {
			if cuts := s.cachedCuts(part.First); !f.Stream && cuts != nil {
				return &cachedSpans{src: s, index: i, cuts: cuts, left: part}
			}
			return s.spans(i, part)
		})
		r.First = part.End
	}
	return &list
}

// manySpans cuts several parts, one after the other.
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
		if errors.Is(err, loader.ErrHung) {
			*m = (*m)[1:] // the other files may answer
		}
		return span, err
	}
	return chunker.Span{}, io.EOF
}

// cachedSpans returns cached spans while they are within the requested size, and cuts the rest.
type cachedSpans struct {
	src   *CSV
	index int
	cuts  []chunker.Span
	left  chunker.Range
	rest  *spans
}

func (k *cachedSpans) Next(n int64) (chunker.Span, error) {
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
	stream *stream // the stream that in reads, or nil
	hold   bool    // the input cannot be read again: text is held until Done
	text   []byte  // held text that is cut again; textAt is its position
	textAt int64

	at, end int64 // the rest of the range, in positions
	line    int64 // line at position at; zero is unknown
	buf     []byte
	base    int64 // position of buf[0]
	eof     bool  // buf holds all of the rest
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

// bodyLine returns the line of the first record; r is the text in front of it.
func (c *spans) bodyLine(r io.Reader) int64 {
	head := make([]byte, c.file.Data)
	if _, err := io.ReadFull(r, head); err != nil {
		c.err = failure.Reading(c.file.Name, err)
	}
	return 1 + c.src.Dialect.CountLines(head)
}

// fill reads until buf holds n bytes or the input ends.
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
			if c.end == c.file.End() {
				c.buf = c.src.withoutBlank(c.buf)
			}
			return nil
		}
		if err != nil {
			if cause := c.src.interrupted(); cause != nil && c.stream != nil {
				return cause
			}
			var file *FileError
			if cause := c.src.interrupted(); errors.As(err, &file) || cause != nil && errors.Is(err, cause) {
				c.buf = nil // an abandoned read may still write to it
				return err
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the compressed data ends early")
			}
			return failure.Reading(c.file.Name, fmt.Errorf("after byte %d: %w", c.base+int64(len(c.buf))-c.file.First, err))
		}
	}
	return nil
}

// free returns the read buffer to the source; c cuts no more.
func (c *spans) free() {
	if c.buf != nil {
		c.src.mu.Lock()
		c.src.buf = c.buf[:0]
		c.src.mu.Unlock()
		c.buf = nil
	}
}

// spare returns a buffer from free, or nil.
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
		scan := csv.Scanner{Dialect: c.src.Dialect, Buf: c.buf, EOF: c.eof}
		if scan.Skip(n, size) {
			span.Rows = scan.Rows
			return c.take(span, scan.At, scan.Lines), nil
		}
		switch {
		case len(c.buf) == 0: // no record follows
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

// spanSlack is the number of bytes read beyond a span, so that the record at its end is mostly
// in memory.
const spanSlack = 256 << 10

// broken ends the span behind its first line, which opens an unclosed quote or exceeds every
// bound. The rest is read as if the line were absent.
func (c *spans) broken(span chunker.Span) (chunker.Span, error) {
	line := c.src.Dialect.LineLen(c.buf)
	if line < len(c.buf) || c.eof {
		return c.take(span, line, 1), nil
	}
	// No end of the line is in sight: skip it, but keep its beginning.
	kept := bytes.Clone(c.buf)
	for {
		c.base += int64(len(c.buf))
		c.buf = c.buf[:0]
		if err := c.fill(headBytes); err != nil {
			return chunker.Span{}, err
		}
		if line := c.src.Dialect.LineLen(c.buf); line < len(c.buf) || c.eof {
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
		next = c.end // of a stream: the rest of its space
	}
	span.Count = next - span.First
	switch {
	case !c.hold:
	case c.text != nil: // a part of text that is held already
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

// Fit moves the end of a range, whose First is between two records, to a possible end of a
// lease: the next end of a record, or of a stream.
func (s *CSV) Fit(r chunker.Range) (chunker.Range, error) {
	i, f := s.file(r.First)
	if r.End >= s.Positions() {
		r.End = s.Positions()
	}
	if j, last := s.file(r.End - 1); j != i {
		// Whole files, as many as fit.
		if r.End == last.End() {
			return r, nil
		}
		if last.First > r.First {
			r.End = last.First
		}
		return r, nil
	}
	if f.Stream || r.End >= f.End() {
		r.End = f.End()
		return r, nil
	}
	c := s.spans(i, chunker.Range{First: r.First, End: f.End()})
	defer c.free()
	var cuts []chunker.Span
	defer func() { s.cacheCuts(cuts) }()
	n := s.SpanRows
	if n <= 0 {
		n = math.MaxInt64
	}
	for {
		span, err := c.Next(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, loader.ErrHung) {
			break // the whole rest, which needs no reading; the run passes what hangs
		}
		if err != nil {
			return r, err
		}
		if len(cuts) < maxCuts {
			cuts = append(cuts, span)
		}
		if span.End() >= r.End {
			r.End = span.End()
			return r, nil
		}
	}
	r.End = f.End()
	return r, nil
}

// cacheCuts caches consecutive spans for their next Cut, which then need not read the text that
// Fit has read.
func (s *CSV) cacheCuts(cuts []chunker.Span) {
	if len(cuts) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cuts == nil || len(s.cuts) >= maxCachedCuts {
		s.cuts = map[int64][]chunker.Span{}
	}
	s.cuts[cuts[0].First] = cuts
}

// cachedCuts returns, once, the cached spans from a position on.
func (s *CSV) cachedCuts(first int64) []chunker.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	cuts := s.cuts[first]
	delete(s.cuts, first)
	return cuts
}

// Bounds of the cache of Fit's spans: spans of one range, and ranges. Ranges that another run
// leases are never asked for here.
const (
	maxCuts       = 4096
	maxCachedCuts = 8
)
