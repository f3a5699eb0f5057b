package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"bulkload/chunker"
)

// A lane is a claim that workers take spans from.
type lane struct {
	claim Claim
	owner int  // the worker that asked for the claim
	open  int  // spans being worked on
	spent bool // spans has no more

	cutting sync.Mutex // guards spans, which may wait for a disk; taken before run.mu
	spans   Spans
}

// next returns a span to work on: of the worker's own lane, else of a lane that nobody
// has taken up, else of another worker's. Workers with lanes of their own write to
// different ranges of keys. io.EOF: the run has no more to do; ErrBusy: other runs
// have.
func (r *run) next(ctx context.Context, worker int) (*lane, chunker.Span, error) {
	for {
		l, span, err := r.take(func(l *lane) bool { return l.owner == worker || r.Together && l.owner != nobody })
		if errors.Is(err, io.EOF) {
			l, span, err = r.take(func(l *lane) bool { return l.owner == nobody })
			if err == nil {
				r.own(l, worker)
			}
		}
		if !errors.Is(err, io.EOF) {
			return l, span, err
		}
		// Nothing is in reserve: what the claimer says now decides.
		select {
		case <-ctx.Done():
			return nil, span, ctx.Err()
		case <-r.halt:
			return nil, span, io.EOF
		case <-r.Stop:
			return nil, span, ErrStopped
		case err := <-r.claimed:
			if err == nil {
				continue
			}
			if l, span, err := r.take(func(*lane) bool { return true }); !errors.Is(err, io.EOF) {
				return l, span, err
			}
			return nil, span, err
		}
	}
}

// nobody is the owner of a lane in reserve.
const nobody = -1

func (r *run) own(l *lane, worker int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.owner = worker
	r.reserve.Signal()
}

// claimAhead keeps one lane in reserve, so that no worker waits for a claim while
// there is work. What it learns goes to the workers that wait: nil for a new lane, else
// why there is none.
func (r *run) claimAhead(ctx context.Context) {
	for {
		r.mu.Lock()
		for !r.closing && slices.ContainsFunc(r.lanes, func(l *lane) bool { return l.owner == nobody && !l.spent }) {
			r.reserve.Wait()
		}
		closing, size := r.closing, r.pace.size
		r.mu.Unlock()
		if closing {
			return
		}
		claim, err := r.queue.Claim(ctx, size)
		switch {
		case err == nil:
			l := &lane{claim: claim, owner: nobody, spans: r.cut(claim.Done.Gaps(claim.Range)...)}
			r.mu.Lock()
			r.lanes = append(r.lanes, l)
			r.mu.Unlock()
		case !errors.Is(err, io.EOF) && !errors.Is(err, ErrBusy):
			if ctx.Err() == nil {
				r.fail(fmt.Errorf("claim rows: %w", err))
			}
			return
		}
		select {
		case r.claimed <- err:
		case <-ctx.Done():
			return
		case <-r.over:
			return
		}
	}
}

// take cuts a span from the first lane that from accepts and that has one left;
// io.EOF where none has.
func (r *run) take(from func(*lane) bool) (*lane, chunker.Span, error) {
	for {
		l, size := r.choose(from)
		if l == nil {
			return nil, chunker.Span{}, io.EOF
		}
		span, err := r.cutNext(l, size)
		if !errors.Is(err, io.EOF) {
			return l, span, err
		}
	}
}

// choose returns a lane that may have a span left, and how many rows to cut.
func (r *run) choose(from func(*lane) bool) (*lane, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		if !l.spent && from(l) {
			return l, r.pace.size
		}
	}
	return nil, 0
}

// cutNext cuts the next span of a lane.
func (r *run) cutNext(l *lane, size int64) (chunker.Span, error) {
	l.cutting.Lock()
	defer l.cutting.Unlock()
	span, err := l.spans.Next(size)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		l.open++
	case errors.Is(err, io.EOF):
		l.spent = true
		r.reserve.Signal() // it may have been the one in reserve, of a worker that was dismissed
	}
	return span, err
}

// covered reports whether the ledger turned out to have all of span, from an
// attempt at a larger chunk that was believed lost.
func (r *run) covered(l *lane, span chunker.Span) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.claim.Done.Covers(span.Range())
}

// close ends one span of a lane and, with the last, has the lane's claim given back
// while the worker goes on.
func (r *run) close(ctx context.Context, l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.open--
	if l.open > 0 || !l.claim.Done.Covers(l.claim.Range) {
		return
	}
	r.writes.Go(func() {
		r.books.Lock()
		defer r.books.Unlock()
		r.mu.Lock()
		r.lanes = slices.DeleteFunc(r.lanes, func(x *lane) bool { return x == l })
		r.reserve.Signal()
		r.mu.Unlock()
		if err := r.queue.Release(ctx, l.claim); err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("record rows %d to %d as done: %w", l.claim.First, l.claim.End-1, err))
		}
	})
}
