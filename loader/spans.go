package loader

import (
	"errors"
	"io"
	"slices"

	"bulkload/chunker"
)

// A Cutter is a Source whose positions are not row numbers. It therefore cuts its own spans:
// in a file, only a scanner finds the ends of records.
type Cutter interface {
	// Cut returns the spans of r, whose ends lie between two records.
	Cut(r chunker.Range) Spans
}

// Spans iterates over spans. It is not safe for concurrent use.
type Spans interface {
	// Next returns the next span, of at most rows rows, and io.EOF after the last one.
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

// Cut returns the spans of the given position ranges of src.
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

// chain concatenates several Spans.
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

// A Holder is a Source that cannot be read twice. It retains the data of a span until the span
// is committed.
type Holder interface {
	// Done frees the data of span and of the parts that it was cut into: all of it is
	// committed.
	Done(span chunker.Span)
}

// A Placer is a Source that can name the position of a span as people look for it: a file and
// a line.
type Placer interface {
	// Place returns the position as the beginning of an error message.
	Place(span chunker.Span) string
}
