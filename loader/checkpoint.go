package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bulkload/chunker"
)

// This file holds what the dispatcher reports to the queue: confirmed ranges, uncertain ranges
// and complete leases.

// A confirmed range holds the amounts that one event added to the total.
type confirmed struct {
	chunker.Range
	rows, already, rejected, conflicts, chunks int64

	hash    string // see Outcome.Hash
	records int64
}

// without splits list into the elements that overlap none of the ranges, and the others.
func without(list []confirmed, ranges []chunker.Range) (rest, gone []confirmed) {
	for _, x := range list {
		if slices.ContainsFunc(ranges, func(g chunker.Range) bool { return g.First < x.End && x.First < g.End }) {
			gone = append(gone, x)
		} else {
			rest = append(rest, x)
		}
	}
	return rest, gone
}

// confirm records a confirmed span. whole is the larger range that the ledger turned out to
// hold, from an attempt that was believed lost.
func (d *dispatcher) confirm(l *heldLease, in confirmed, whole chunker.Range) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.Done.Add(in.Range)
	l.confirmed = append(l.confirmed, in)
	if in.hash != "" {
		l.Hashed = append(l.Hashed, HashedRange{in.Range, in.hash, in.records})
	}
	if whole.Len() > in.Len() {
		// Only halves of a chunk can get here: the whole chunk was committed after all. Its
		// other parts are counted when they are skipped.
		l.Done.Add(chunker.Range{First: in.End, End: min(whole.End, l.End)})
	}
}

// committed reports whether the ledger turned out to hold all of span, from an attempt at a
// larger chunk that was believed lost.
func (d *dispatcher) committed(l *heldLease, span chunker.Span) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return l.Done.Covers(span.Range())
}

// maybeSent reports whether an attempt with unknown outcome may have sent a part of span.
func (d *dispatcher) maybeSent(l *heldLease, span chunker.Span) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var free int64
	for _, gap := range l.Open.Gaps(span.Range()) {
		free += gap.Len()
	}
	return free < span.Count
}

// doubt records that a look-up decided a span (looked), or that it may have been sent. The
// record comes before any other record of the span.
func (d *dispatcher) doubt(ctx context.Context, l *heldLease, span chunker.Span, looked bool) error {
	d.mu.Lock()
	l.Open.Add(span.Range())
	d.mu.Unlock()
	if q, ok := d.queue.(InDoubtQueue); ok {
		return q.RecordInDoubt(ctx, span.Range(), looked)
	}
	return nil
}

// close ends one span of a lease. The last one releases the lease in the background, so that
// the worker can go on.
func (d *dispatcher) close(ctx context.Context, l *heldLease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.open--
	if l.open > 0 || !l.Done.Covers(l.Range) {
		return
	}
	d.releases.Go(func() {
		defer d.activity.begin()()
		d.queueMu <- struct{}{}
		defer func() { <-d.queueMu }()
		d.mu.Lock()
		d.leases = slices.DeleteFunc(d.leases, func(x *heldLease) bool { return x == l })
		d.wake()
		d.mu.Unlock()
		if err := d.release(ctx, l, l.Lease); err != nil && ctx.Err() == nil {
			d.fail(fmt.Errorf("record rows %d to %d as done: %w", l.First, l.End-1, err))
		}
	})
}

// release releases a lease, and reports the ranges that the server has lost.
func (d *dispatcher) release(ctx context.Context, l *heldLease, with Lease) error {
	err := d.queue.Release(ctx, with)
	var missing *GoneError
	if err != nil && !errors.As(err, &missing) {
		return err
	}
	d.mu.Lock()
	var gone []confirmed
	if missing != nil {
		l.confirmed, gone = without(l.confirmed, missing.Ranges)
	}
	d.past = append(d.past, l.confirmed...)
	l.confirmed = nil
	d.mu.Unlock()
	return d.lose(gone)
}

func (d *dispatcher) lose(gone []confirmed) error {
	if len(gone) == 0 {
		return nil
	}
	return d.lost(gone)
}

// releaseAll releases the leases that the run still holds, so that another run can continue at
// once. It requires that all workers and claimAhead have ended.
func (d *dispatcher) releaseAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for i, c := range d.held() {
		if err := d.release(ctx, d.leases[i], c); err != nil && !errors.Is(err, ErrLost) {
			return fmt.Errorf("release unloaded rows: %w", err)
		}
	}
	return nil
}

// held returns copies of the leases.
func (d *dispatcher) held() []Lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Lease, len(d.leases))
	for i, l := range d.leases {
		list[i].Range = l.Range
		list[i].Done.AddAll(l.Done)
		list[i].Hashed = slices.Clone(l.Hashed)
	}
	return list
}

// sending holds the times at which the chunks in flight were first sent.
type sending []time.Time

// sent records that a chunk is in flight.
func (d *dispatcher) sent() time.Time {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sending = append(d.sending, now)
	return now
}

// ended records that the chunk sent at start is no longer in flight.
func (d *dispatcher) ended(start time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.sending, start); i >= 0 {
		d.sending = slices.Delete(d.sending, i, i+1)
	}
}

// maxQuiet bounds the time without a checkpoint. It is shorter than the time after which other
// runs take a run without a heartbeat for dead.
const maxQuiet = 10 * time.Second

// disturbs reports whether a checkpoint now would be the second one, after the one at last,
// during the same chunk. CockroachDB restarts a transaction when the lease row that it has
// read changes. Seen on 21.1: a chunk that took longer than the time between two checkpoints
// was restarted for ever.
func (d *dispatcher) disturbs(last time.Time) bool {
	if time.Since(last) >= maxQuiet {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.sending, func(t time.Time) bool { return t.Before(last) })
}

// checkpoints writes checkpoints until the workers have returned. A lost lease and lost rows
// end the run. The next checkpoint makes up for any other failure.
func (d *dispatcher) checkpoints(ctx context.Context) {
	tick := time.NewTicker(CheckpointEvery)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		for waiting := true; waiting; waiting = d.disturbs(last) {
			select {
			case <-d.over:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		if err := d.checkpoint(ctx); errors.Is(err, ErrLost) || errors.Is(err, ErrUnconfirmed) {
			d.fail(err)
			return
		}
	}
}

func (d *dispatcher) checkpoint(ctx context.Context) error {
	d.queueMu <- struct{}{}
	defer func() { <-d.queueMu }()
	return d.queue.Checkpoint(ctx, d.held())
}
