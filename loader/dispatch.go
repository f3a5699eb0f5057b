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

// A dispatcher hands out spans to workers, and keeps the queue informed. It claims leases
// ahead, cuts them, writes checkpoints of what is in, and releases what is complete. It does
// not know what a worker does with a span. Its methods are called by several goroutines at
// once. Its lock is never held while it calls anything.
type dispatcher struct {
	queue    Queue
	inOrder  bool                                // workers take neighbouring spans
	cut      func(ranges ...chunker.Range) Spans // of the source
	size     func() int64                        // rows of the next chunk
	fail     func(error)                         // told of what ends the run
	lost     func(gone []confirmed) error        // told of spans that the server has no more
	activity *activity
	stop     <-chan struct{} // the user wants no more spans
	halt     <-chan struct{} // closed when the run has failed
	over     chan struct{}   // closed when the workers have returned

	// queueMu serializes queue writes: a checkpoint must not overtake the release of its
	// lease, or the lease looks lost. It is a channel of one slot, since it is held while
	// the network is waited for.
	queueMu  chan struct{}
	releases sync.WaitGroup // of leases that are complete

	mu     sync.Mutex // guards what follows
	leases []*heldLease
	// changed is closed, and another put in its place, when those who wait should look
	// again: the workers for a lease, claimAhead for a reason to claim.
	changed chan struct{}
	answers int   // of the queue
	answer  error // the last one; nil gave a lease
	waiting int   // workers that wait for the next one
	heard   []int // by worker: the last answer that ended a search of its
	sending sending
	past    []confirmed // of leases that were released
}

// A heldLease is a lease that workers take spans from.
type heldLease struct {
	Lease
	owner int  // the worker that works on it; nobody: it is in reserve
	open  int  // spans being worked on
	spent bool // spans has no more
	// confirmed is what this run was told to be in.
	confirmed []confirmed

	cutting sync.Mutex // guards spans, which may wait for a disk; taken before the dispatcher's
	spans   Spans
}

// nobody is the owner of a lease in reserve.
const nobody = -1

// next returns a span to work on: of the worker's own lease, else of a lease that nobody
// works on, else, where the queue has no more to give, of another worker's. Workers with
// leases of their own write to different ranges of keys. io.EOF: the run has no more to do;
// ErrBusy: other runs have.
func (d *dispatcher) next(ctx context.Context, worker int) (*heldLease, chunker.Span, error) {
	for {
		d.mu.Lock()
		changed, answers, answer := d.changed, d.answers, d.answer
		d.mu.Unlock()
		l, span, err := d.take(func(l *heldLease) bool { return l.owner == worker || d.inOrder && l.owner != nobody })
		if errors.Is(err, io.EOF) {
			l, span, err = d.take(func(l *heldLease) bool { return l.owner == nobody })
			if err == nil {
				d.own(l, worker)
			}
		}
		if errors.Is(err, io.EOF) && answer != nil {
			l, span, err = d.take(func(*heldLease) bool { return true })
		}
		if !errors.Is(err, io.EOF) {
			return l, span, err
		}
		if answer != nil && d.hears(worker, answers) {
			return nil, span, answer
		}
		if err := d.wait(ctx, changed); err != nil {
			return nil, span, err
		}
	}
}

// hears reports whether a worker has not yet ended a search with this answer of the queue.
// The next search needs another: meanwhile there may be more to have.
func (d *dispatcher) hears(worker, answers int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.heard[worker] == answers {
		return false
	}
	d.heard[worker] = answers
	return true
}

// wait waits until something has changed since the worker saw changed. A worker that
// waits is a reason to ask the queue. io.EOF: the run has failed.
func (d *dispatcher) wait(ctx context.Context, changed <-chan struct{}) error {
	d.mu.Lock()
	if changed != d.changed {
		d.mu.Unlock()
		return nil
	}
	asked := d.answers
	if d.waiting++; d.waiting == 1 {
		d.wake()
	}
	changed = d.changed
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.answers == asked {
			d.waiting--
		}
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.halt:
		return io.EOF
	case <-d.stop:
		return ErrStopped
	case <-changed:
		return nil
	}
}

// wake makes those who wait look again. The dispatcher is locked.
func (d *dispatcher) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *dispatcher) own(l *heldLease, worker int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.owner = worker
	d.wake()
}

// retire puts the leases of a worker that ends into reserve.
func (d *dispatcher) retire(worker int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if l.owner == worker {
			l.owner = nobody
		}
	}
	d.wake()
}

// claimAhead keeps one lease in reserve, so that no worker waits for a claim while there is
// work. When the queue has no more to give, it is asked again as often as a worker waits.
//
// Note: tried a channel for what the queue said, beside a condition for the reserve. A
// lease that came back from a worker that was retired was a reserve for claimAhead, and no
// word to those that waited for it: they waited for each other.
func (d *dispatcher) claimAhead(ctx context.Context) {
	for {
		size := d.size()
		d.mu.Lock()
		changed, wanted := d.changed, d.wantsLease()
		d.mu.Unlock()
		if !wanted {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return
			case <-d.over:
				return
			}
		}
		select {
		case <-d.over:
			return
		default:
		}
		done := d.activity.begin()
		lease, err := d.queue.Claim(ctx, size)
		done()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrBusy) {
			if ctx.Err() == nil {
				d.fail(fmt.Errorf("claim rows: %w", err))
			}
			return
		}
		var l *heldLease
		if err == nil {
			free := lease.Done.Gaps(lease.Range)
			l = &heldLease{Lease: lease, owner: nobody, spans: d.cut(free...)}
			d.mu.Lock()
			rest, gone := without(d.past, free) // the server may have lost a release too
			d.past = rest
			d.mu.Unlock()
			if err := d.lose(gone); err != nil {
				d.fail(err)
				return
			}
		}
		d.answered(l, err)
	}
}

// wantsLease reports whether the queue should be asked. The dispatcher is locked.
func (d *dispatcher) wantsLease() bool {
	if slices.ContainsFunc(d.leases, func(l *heldLease) bool { return l.owner == nobody && !l.spent }) {
		return false
	}
	return d.answer == nil || d.waiting > 0
}

// answered is told what the queue gave, or said instead.
func (d *dispatcher) answered(l *heldLease, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l != nil {
		d.leases = append(d.leases, l)
	}
	d.answer, d.waiting = err, 0
	d.answers++
	d.wake()
}

// take cuts a span from the first lease that from accepts and that has one left;
// io.EOF where none has.
func (d *dispatcher) take(from func(*heldLease) bool) (*heldLease, chunker.Span, error) {
	for {
		l := d.choose(from)
		if l == nil {
			return nil, chunker.Span{}, io.EOF
		}
		span, err := d.cutNext(l, d.size())
		if !errors.Is(err, io.EOF) {
			return l, span, err
		}
	}
}

// choose returns a lease that may have a span left, or nil.
func (d *dispatcher) choose(from func(*heldLease) bool) *heldLease {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.leases {
		if !l.spent && from(l) {
			return l
		}
	}
	return nil
}

// cutNext cuts the next span of a lease, of size rows.
func (d *dispatcher) cutNext(l *heldLease, size int64) (chunker.Span, error) {
	defer d.activity.begin()()
	l.cutting.Lock()
	defer l.cutting.Unlock()
	span, err := l.spans.Next(size)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		l.open++
	case errors.Is(err, io.EOF):
		l.spent = true
		d.wake() // it may have been the one in reserve, of a worker that was retired
	}
	return span, err
}

// standing says what those who have nothing to do wait for.
func (d *dispatcher) standing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	free := 0
	for _, l := range d.leases {
		if l.owner == nobody && !l.spent {
			free++
		}
	}
	said := "gave rows"
	switch {
	case d.answers == 0:
		said = "has not answered"
	case d.answer != nil:
		said = fmt.Sprintf("said: %v", d.answer)
	}
	return fmt.Sprintf("%d workers wait for the next of %d claims, the queue last %s, and %d of the %d claims that are held are free",
		d.waiting, d.answers+1, said, free, len(d.leases))
}

// localQueue is the queue of a job without one: all positions, in this process.
type localQueue struct {
	mu   sync.Mutex
	left chunker.Range
}

func (q *localQueue) Claim(context.Context, int64) (Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left.Len() <= 0 {
		return Lease{}, io.EOF
	}
	c := Lease{Range: q.left}
	q.left.First = q.left.End
	return c, nil
}

func (q *localQueue) Checkpoint(context.Context, []Lease) error { return nil }
func (q *localQueue) Release(context.Context, Lease) error      { return nil }
