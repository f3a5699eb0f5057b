package loader

import (
	"errors"
	"io"
	"slices"

	"bulkload/chunker"
)

// A Cutter is a Source whose positions are not row numbers, and which therefore
// cuts its spans itself: a file, whose records end where the scanner finds them.
type Cutter interface {
	// Cut returns the spans of r, which begins and ends between two records.
	Cut(r chunker.Range) Spans
}

// Spans gives one span after the other. It is used by one goroutine at a time.
type Spans interface {
	// Next returns the next span, of at most rows rows; io.EOF behind the last.
	Next(rows int64) (chunker.Span, error)
}

// rowSpans cuts ranges of row numbers.
type rowSpans []chunker.Range

func (s *rowSpans) Next(n int64) (chunker.Span, error) {
	if len(*s) == 0 {
		return chunker.Span{}, io.EOF
	}
	r := &(*s)[0]
	span := chunker.RowSpan(r.First, min(n, r.Len()))
	if r.First = span.End(); r.Len() == 0 {
		*s = (*s)[1:]
	}
	return span, nil
}

// Cut returns the spans of the given ranges of a source's positions.
func Cut(src Source, ranges ...chunker.Range) Spans {
	if c, ok := src.(Cutter); ok {
		s := make(chain, len(ranges))
		for i, x := range ranges {
			s[i] = c.Cut(x)
		}
		return &s
	}
	s := rowSpans(slices.Clone(ranges))
	return &s
}

// chain gives the spans of several Spans, one behind the other.
type chain []Spans

func (c *chain) Next(n int64) (chunker.Span, error) {
	for len(*c) > 0 {
		span, err := (*c)[0].Next(n)
		if !errors.Is(err, io.EOF) {
			return span, err
		}
		*c = (*c)[1:]
	}
	return chunker.Span{}, io.EOF
}

// A Holder is a Source that holds what cannot be read a second time until its span is
// committed.
type Holder interface {
	// Done lets go of what is held for span and for the parts that it was cut
	// into: all of it is committed.
	Done(span chunker.Span)
}

// A Placer is a Source that says where a span lies, as people look for it: a file and a
// line.
type Placer interface {
	// Place is for the beginning of an error about the span.
	Place(span chunker.Span) string
}
