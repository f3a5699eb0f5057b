package loader

import (
	"context"
	"errors"
	"io"

	"bulkload/chunker"
)

// spans returns the spans of the free ranges of a lease. With an AnnouncingQueue, every span lies
// in a range that was announced.
func (d *dispatcher) spans(ctx context.Context, free []chunker.Range) Spans {
	q, ok := d.queue.(AnnouncingQueue)
	if !ok {
		return d.cut(free...)
	}
	return &announced{
		announce: func(r chunker.Range) (chunker.Range, error) { return q.Announce(ctx, r) },
		cut:      d.cut, left: free,
	}
}

// announced cuts ranges part by part, each after the queue has recorded it.
type announced struct {
	announce func(chunker.Range) (chunker.Range, error)
	cut      func(...chunker.Range) Spans
	left     []chunker.Range // not announced yet
	part     Spans           // of the part announced last; nil before the first
}

// Next implements Spans.
func (a *announced) Next(rows int64) (chunker.Span, error) {
	for {
		if a.part != nil {
			span, err := a.part.Next(rows)
			if !errors.Is(err, io.EOF) {
				return span, err
			}
			a.part = nil
		}
		for len(a.left) > 0 && a.left[0].Len() <= 0 {
			a.left = a.left[1:]
		}
		if len(a.left) == 0 {
			return chunker.Span{}, io.EOF
		}
		part, err := a.announce(a.left[0])
		if err == nil || errors.Is(err, ErrHung) {
			a.left[0].First = max(part.End, a.left[0].First)
		}
		if err != nil {
			return chunker.Span{}, err
		}
		a.part = a.cut(part)
	}
}
