package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"bulkload/chunker"
)

// A dispatcher hands out spans to workers and keeps the queue informed. It claims leases
// ahead, cuts them into spans, writes checkpoints of confirmed ranges, and releases complete
// leases. It does not know how a worker processes a span. Its methods are safe for concurrent
// use. It never holds its lock during a call to other code.
type dispatcher struct {
	queue    Queue
	inOrder  bool                                // workers take neighbouring spans
	cut      func(ranges ...chunker.Range) Spans // of the source
	size     func() int64                        // rows of the next chunk
	workers  func() int64
	waits    time.Duration                // of a chunk for the network; zero is unknown
	fail     func(error)                  // called with the error that ends the run
	lost     func(gone []confirmed) error // called with ranges that the server has lost
	activity *activity
	stop     <-chan struct{} // closed when the user wants no more spans
	halt     <-chan struct{} // closed when the run has failed
	over     chan struct{}   // closed when the workers have returned

	// queueMu serializes queue writes: a checkpoint must not overtake the release of its
	// lease, or the lease looks lost. It is a channel of one slot, since its holder waits for
	// the network.
	queueMu  chan struct{}
	releases sync.WaitGroup // running releases of complete leases
	// announcing counts the announcements under way.
	announcing sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	leases []*heldLease
	// changed is closed and replaced to wake the waiting goroutines: workers wait for a lease,
	// claimAhead for a reason to claim.
	changed chan struct{}
	answers int   // number of answers from the queue
	answer  error // the last answer; nil means a lease
	waiting int   // workers waiting for the next answer
	// lastAnswer is, by worker, the answer that ended its last search.
	lastAnswer []int
	sending    sending
	count      int64       // positions of the last span
	past       []confirmed // from released leases
}

// A heldLease is a lease from which workers take spans.
type heldLease struct {
	Lease
	owner int  // the worker that works on it, or nobody if in reserve
	open  int  // spans taken and not closed yet
	spent bool // spans is exhausted
	// left is the number of positions that no span has yet. At low, the next lease is claimed.
	left, low int64
	// confirmed holds the ranges confirmed to this run.
	confirmed []confirmed

	cutting sync.Mutex // guards spans (Next may wait for a disk); taken before the dispatcher's lock
	spans   Spans
}

// nobody is the owner of a lease in reserve.
const nobody = -1

// next returns a span to work on: first from the worker's own lease, then from a lease in
// reserve, and once the queue has no more leases, from another worker's lease. Workers with
// separate leases write to different key ranges. io.EOF means that the run has nothing left;
// ErrBusy means that other runs hold the rest.
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
		if answer != nil && d.endsSearch(worker, answers) {
			return nil, span, answer
		}
		if err := d.wait(ctx, changed); err != nil {
			return nil, span, err
		}
	}
}

// endsSearch reports whether this answer of the queue is new to the worker's searches. Each answer
// ends only one search per worker: the next search waits for a newer answer, because more work
// may become available.
func (d *dispatcher) endsSearch(worker, answers int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastAnswer[worker] == answers {
		return false
	}
	d.lastAnswer[worker] = answers
	return true
}

// wait waits until a change after the worker read changed. A waiting worker makes claimAhead
// ask the queue. io.EOF means that the run has failed.
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

// wake wakes all waiting goroutines. The caller holds the lock.
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

// retire returns the leases of a retired worker to the reserve.
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

// claimRounds is the number of chunks per worker that a lease still has when the next one is
// claimed: a claim takes two round trips and may wait for a release of two, and a chunk takes at
// least one.
const claimRounds = 4

// claimAhead claims the next lease when half of one is used up, or claimRounds are left, so that
// no worker waits for a claim while there is work. When the queue has no more leases, claimAhead
// asks again whenever a worker waits.
//
// Note: tried a channel for the queue's answers and a condition variable for the reserve. A
// lease returned by a retired worker filled the reserve for claimAhead, but did not wake the
// workers waiting for a lease: they waited for each other.
func (d *dispatcher) claimAhead(ctx context.Context) {
	for {
		count, workers := d.size(), d.workers()
		d.mu.Lock()
		if d.count > 0 {
			count = d.count
		}
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
		lease, err := d.queue.Claim(ctx, count*workers)
		done()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrBusy) {
			if ctx.Err() == nil {
				d.fail(fmt.Errorf("lease rows: %w", err))
			}
			return
		}
		var l *heldLease
		if err == nil {
			free := lease.Done.Gaps(lease.Range)
			l = &heldLease{Lease: lease, owner: nobody, spans: d.spans(ctx, free)}
			for _, r := range free {
				l.left += r.Len()
			}
			l.low = l.left / 2
			d.mu.Lock()
			rest, gone := without(d.past, free) // the server may also have lost a release
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

// wantsLease reports whether to ask the queue: a worker waits, or soon will. A reserve claimed
// earlier than that would only be kept from the runs that join. The caller holds the lock.
func (d *dispatcher) wantsLease() bool {
	working, low := false, false
	for _, l := range d.leases {
		if l.inReserve() {
			return false
		}
		if !l.spent {
			working, low = true, low || l.left <= l.low
		}
	}
	return d.waiting > 0 || d.answer == nil && (low || !working)
}

// inReserve reports whether a worker can take the lease. The caller holds the dispatcher's lock.
func (l *heldLease) inReserve() bool { return l.owner == nobody && !l.spent }

// answered records the queue's answer: a lease, or err.
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

// take cuts a span from the first lease that from accepts and that has a span left. It returns
// io.EOF if there is none.
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
	workers := d.workers()
	l.cutting.Lock()
	defer l.cutting.Unlock()
	span, err := l.spans.Next(size)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		l.open++
		d.count = span.Count
		early := l.left > l.low
		l.left -= span.Count
		l.low = max(l.low, claimRounds*span.Count*workers)
		if early && l.left <= l.low {
			d.wake()
		}
	case errors.Is(err, io.EOF):
		l.spent = true
		d.wake() // it may have been the lease in reserve, from a retired worker
	}
	return span, err
}

// standing describes what the waiting workers wait for.
func (d *dispatcher) standing() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	free := 0
	for _, l := range d.leases {
		if l.inReserve() {
			free++
		}
	}
	said := "last granted rows"
	switch {
	case d.answers == 0:
		said = "has not answered"
	case d.answer != nil:
		said = fmt.Sprintf("last answered: %v", d.answer)
	}
	return fmt.Sprintf("%d workers wait for rows (lease %d); the lease queue %s; %d of the %d leases of this run have no worker",
		d.waiting, d.answers+1, said, free, len(d.leases))
}

// localQueue is the queue of a job without one. It holds all positions in this process.
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
