package loader

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

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
		early:    d.waits >= earlyFrom, beside: &d.announcing, cut: d.cut, left: free,
	}
}

// earlyFrom is the wait of a chunk for the network from which on the next part is announced while
// workers take spans of the current one. Near the server that gains little, and after a kill -9
// twice as much of the file may have been sent.
const earlyFrom = 8 * time.Millisecond

// announced cuts ranges part by part, each after the queue has recorded it.
type announced struct {
	early    bool
	announce func(chunker.Range) (chunker.Range, error)
	beside   *sync.WaitGroup // of announcements under way
	cut      func(...chunker.Range) Spans
	left     []chunker.Range     // not announced yet; the first may be under way
	coming   <-chan announcement // under way; nil: none is
	part     Spans               // of the part announced last; nil before the first
}

// An announcement is the queue's answer.
type announcement struct {
	part chunker.Range
	err  error
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
		a.begin()
		if a.coming == nil {
			return chunker.Span{}, io.EOF
		}
		got := <-a.coming
		a.coming = nil
		if got.err == nil || errors.Is(got.err, ErrHung) {
			a.left[0].First = max(got.part.End, a.left[0].First)
		}
		if got.err != nil {
			return chunker.Span{}, got.err
		}
		a.part = a.cut(got.part)
		if a.early {
			a.begin()
		}
	}
}

// begin begins to announce the next part, if there is one and none is under way.
func (a *announced) begin() {
	for len(a.left) > 0 && a.left[0].Len() <= 0 {
		a.left = a.left[1:]
	}
	if len(a.left) == 0 || a.coming != nil {
		return
	}
	coming, r := make(chan announcement, 1), a.left[0]
	a.coming = coming
	a.beside.Go(func() {
		part, err := a.announce(r)
		coming <- announcement{part, err}
	})
}
