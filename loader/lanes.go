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
	claim Lease
	owner int  // the worker that asked for the claim
	open  int  // spans being worked on
	spent bool // spans has no more
	// confirmed is what this run was told to be in.
	confirmed []confirmed

	cutting sync.Mutex // guards spans, which may wait for a disk; taken before run.mu
	spans   Spans
}

// next returns a span to work on: of the worker's own lane, else of a lane that nobody
// has taken up, else, where the queue has no more to give, of another worker's. Workers
// with lanes of their own write to different ranges of keys. io.EOF: the run has no more
// to do; ErrBusy: other runs have.
func (r *run) next(ctx context.Context, worker int) (*lane, chunker.Span, error) {
	for {
		r.mu.Lock()
		changed, answers, answer := r.changed, r.answers, r.answer
		r.mu.Unlock()
		l, span, err := r.take(func(l *lane) bool { return l.owner == worker || r.InOrder && l.owner != nobody })
		if errors.Is(err, io.EOF) {
			l, span, err = r.take(func(l *lane) bool { return l.owner == nobody })
			if err == nil {
				r.own(l, worker)
			}
		}
		if errors.Is(err, io.EOF) && answer != nil {
			l, span, err = r.take(func(*lane) bool { return true })
		}
		if !errors.Is(err, io.EOF) {
			return l, span, err
		}
		if answer != nil && r.hears(worker, answers) {
			return nil, span, answer
		}
		if err := r.wait(ctx, changed); err != nil {
			return nil, span, err
		}
	}
}

// hears reports whether a worker has not yet ended a search with this answer of the queue.
// The next search needs another: meanwhile there may be more to have.
func (r *run) hears(worker, answers int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heard[worker] == answers {
		return false
	}
	r.heard[worker] = answers
	return true
}

// wait waits until something has changed since the worker saw changed. A worker that
// waits is a reason to ask the queue. io.EOF: the run has failed.
func (r *run) wait(ctx context.Context, changed <-chan struct{}) error {
	r.mu.Lock()
	if changed != r.changed {
		r.mu.Unlock()
		return nil
	}
	asked := r.answers
	if r.waiting++; r.waiting == 1 {
		r.wake()
	}
	changed = r.changed
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.answers == asked {
			r.waiting--
		}
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.halt:
		return io.EOF
	case <-r.Stop:
		return ErrStopped
	case <-changed:
		return nil
	}
}

// wake has those who wait look again. The run is locked.
func (r *run) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// nobody is the owner of a lane in reserve.
const nobody = -1

func (r *run) own(l *lane, worker int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.owner = worker
	r.wake()
}

// claimAhead keeps one lane in reserve, so that no worker waits for a claim while
// there is work. When the queue has no more to give, it is asked again as often as a
// worker waits.
//
// Note: tried a channel for what the queue said, beside a condition for the reserve. A
// lane that came back from a worker that was dismissed was a reserve for the claimer, and
// no word to those that waited for it: they waited for each other.
func (r *run) claimAhead(ctx context.Context) {
	for {
		r.mu.Lock()
		changed, hungry, size := r.changed, r.hungry(), r.pace.size
		r.mu.Unlock()
		if !hungry {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			case <-r.over:
				return
			}
		}
		select {
		case <-r.over:
			return
		default:
		}
		done := r.underWay()
		claim, err := r.queue.Claim(ctx, size)
		done()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrBusy) {
			if ctx.Err() == nil {
				r.fail(fmt.Errorf("claim rows: %w", err))
			}
			return
		}
		var l *lane
		if err == nil {
			l = &lane{claim: claim, owner: nobody, spans: r.cut(claim.Done.Gaps(claim.Range)...)}
			r.mu.Lock()
			r.past = r.lose(r.past, claim.Done.Gaps(claim.Range)) // the server may have lost a release too
			r.mu.Unlock()
		}
		r.answered(l, err)
	}
}

// hungry reports whether the queue should be asked. The run is locked.
func (r *run) hungry() bool {
	if slices.ContainsFunc(r.lanes, func(l *lane) bool { return l.owner == nobody && !l.spent }) {
		return false
	}
	return r.answer == nil || r.waiting > 0
}

// answered is told what the queue gave, or said instead.
func (r *run) answered(l *lane, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l != nil {
		r.lanes = append(r.lanes, l)
	}
	r.answer, r.waiting = err, 0
	r.answers++
	r.wake()
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
	defer r.underWay()()
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
		r.wake() // it may have been the one in reserve, of a worker that was dismissed
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
		defer r.underWay()()
		r.books <- struct{}{}
		defer func() { <-r.books }()
		r.mu.Lock()
		r.lanes = slices.DeleteFunc(r.lanes, func(x *lane) bool { return x == l })
		r.wake()
		r.mu.Unlock()
		if err := r.giveBack(ctx, l, l.claim); err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("record rows %d to %d as done: %w", l.claim.First, l.claim.End-1, err))
		}
	})
}
