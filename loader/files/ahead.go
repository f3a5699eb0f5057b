package files

import (
	"errors"
	"io"
	"math"

	"bulkload/chunker"
	"bulkload/loader"
)

// Bounds of one announcement. Larger ones make more of a changed file depend on a look-up; smaller
// ones cost more messages.
const (
	aheadSpans = 8       // in spans
	aheadParts = 32      // in small files, the number of announcements
	aheadBytes = 4 << 20 // in bytes
	// To a far server each announcement has a span for each worker, or two if so many
	// announcements are left. With fewer, workers wait for announcements: on CockroachDB 26.1 at
	// 50 ms a load of 200 spans took 4.9 s with parts of 6 spans, and 4.2 s with parts of 16.
	farParts = 8
)

// spansAhead returns the number of spans of an announcement, for spans of size positions.
func (s *CSV) spansAhead(size int64) int64 {
	if together := int64(s.SpansTogether); together > 0 {
		return max(together, min(2*together, s.Positions()/max(size*farParts, 1)))
	}
	return min(aheadSpans, s.Positions()/max(size*aheadParts, 1))
}

// Ahead cuts the first spans of r off, for an announcement, and identifies their bytes as Hash
// does. A stream cannot be read twice: all of it is announced, without a hash. After ErrHung the
// part is what lies in the file that does not answer.
func (s *CSV) Ahead(r chunker.Range) (part chunker.Range, hash string, err error) {
	_, f := s.file(r.First)
	r.End = min(r.End, f.End())
	if f.Stream {
		return r, "", nil
	}
	n := s.SpanRows
	if n <= 0 {
		n = math.MaxInt64
	}
	from := s.Cut(r)
	o := origin{src: s, span: chunker.Span{First: r.First}, raw: s.spareAhead()}
	var cuts []chunker.Span
	for limit := int64(1); int64(len(cuts)) < limit && o.span.Count < aheadBytes; {
		span, err := from.Next(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r, "", err
		}
		cuts = append(cuts, span)
		o.span.Count += span.Count
		o.span.Rows += span.Rows
		limit = s.spansAhead(span.Count)
	}
	s.cacheRest(from)
	s.cacheCuts(cuts)
	if len(cuts) == 0 {
		return r, "", nil
	}
	if err := s.read(&o); err != nil {
		if errors.Is(err, loader.ErrHung) {
			return r, "", err
		}
		return o.span.Range(), "", err
	}
	hash = o.Hash()
	s.mu.Lock()
	s.ahead = o.raw
	s.mu.Unlock()
	return o.span.Range(), hash, nil
}

// spareAhead returns the memory that the last announcement has used.
func (s *CSV) spareAhead() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf := s.ahead
	s.ahead = nil
	return buf
}

// cacheRest caches the spans that were cached for the range and not taken.
func (s *CSV) cacheRest(from loader.Spans) {
	if m, ok := from.(*manySpans); ok && len(*m) > 0 {
		switch k := (*m)[0]().(type) {
		case *cachedSpans:
			if k.rest == nil && len(k.cuts) > 0 && k.cuts[0].First == k.left.First {
				s.cacheCuts(k.cuts)
			} else if k.rest != nil {
				k.rest.free()
			}
		case *spans:
			k.free()
		}
	}
}
