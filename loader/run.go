package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"bulkload/chunker"
	"bulkload/loader/rows"
)

// run is the state of one Run.
type run struct {
	*Job
	queue Queue
	halt  chan struct{} // closed with the first failure

	group errgroup.Group // of the workers

	// books is held while the queue writes, so that no checkpoint of a claim
	// arrives after the claim was given back, and looks like a lost one. It is a channel
	// of one slot, since it is held while the network is waited for.
	books chan struct{}

	over   chan struct{}  // closed when the workers have returned
	writes sync.WaitGroup // claims being given back

	limit *rate.Limiter // of rows; nil is none

	mu    sync.Mutex // guards what follows
	lanes []*lane
	// changed is closed, and another put in its place, when those who wait should
	// look again: the workers for a lane, the claimer for a reason to claim.
	changed chan struct{}
	answers int   // of the queue
	answer  error // the last one; nil gave a lane
	waiting int   // workers that wait for the next one
	pace    pace
	crew    crew
	working []bool // by worker: it takes spans
	heard   []int  // by worker: the last answer that ended a search of its
	active  int    // what is under way; see underWay
	moves   int    // what has ever been
	// began are the times at which the chunks under way were first sent.
	began   []time.Time
	failure error
	times   []time.Duration
	total   Result
	past    []confirmed // of lanes that were given back
	lost    int64       // positions that the server lost, each as often as it did
}

func newRun(j *Job) *run {
	r := &run{
		Job: j, queue: j.Queue,
		halt: make(chan struct{}), books: make(chan struct{}, 1), over: make(chan struct{}), changed: make(chan struct{}),
	}
	r.crew = crew{size: j.Workers, most: j.MaxWorkers}
	if r.crew.size == 0 {
		r.crew.size = DefaultWorkers
	}
	r.working = make([]bool, max(r.crew.size, r.crew.most))
	r.heard = make([]int, len(r.working))
	size := j.Plan.RowsPerChunk
	if size == 0 {
		size = chunker.DefaultRowsPerChunk
	}
	r.pace = pace{size: size, most: max(size, j.MaxRows), fixed: !j.AutoTune, flow: j.FlowControlled}
	if j.RowsPerSecond > 0 {
		r.limit = rate.NewLimiter(rate.Limit(j.RowsPerSecond), max(int(j.RowsPerSecond), 1))
		r.limit.AllowN(time.Now(), r.limit.Burst()) // the first second is like all others
		r.crew.most = r.crew.size                   // more workers would wait as well
	}
	if r.queue == nil {
		r.queue = &localQueue{left: chunker.Range{End: j.Positions}}
	}
	return r
}

// man starts the workers that the crew has and that do not work, but no more than there
// are chunks: each needs a session. The run is locked.
func (r *run) man(ctx context.Context) {
	needed := r.crew.size
	if r.Plan.Chunks > 0 {
		needed = int(min(int64(needed), r.Plan.Chunks))
	}
	for worker := range needed {
		if !r.working[worker] {
			r.working[worker] = true
			// A worker returns no error but that of ctx: a failure of one
			// lets the others finish their chunks.
			r.group.Go(func() error { return r.work(ctx, worker) })
		}
	}
}

// dismissed reports whether the crew has got too small for a worker, whose lanes then
// are anybody's.
func (r *run) dismissed(worker int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if worker < r.crew.size {
		return false
	}
	r.working[worker] = false
	for _, l := range r.lanes {
		if l.owner == worker {
			l.owner = nobody
		}
	}
	r.wake()
	return true
}

// work is one worker: it takes spans until there are none, or too many workers. Its
// error is that of ctx; every other failure is the run's.
func (r *run) work(ctx context.Context, worker int) error {
	c := rows.NewChunk(r.Source.Columns())
	for !r.dismissed(worker) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.halt:
			return nil
		case <-r.Stop:
			r.fail(ErrStopped)
			return nil
		default:
		}
		l, span, err := r.next(ctx, worker)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrBusy):
			done := r.underWay()
			r.pause(ctx, busyPoll)
			done()
			continue
		case err == nil:
			done := r.underWay()
			err = r.load(ctx, c, l, span)
			done()
			if err == nil {
				if h, ok := r.Source.(Holder); ok {
					h.Done(span)
				}
				r.close(ctx, l)
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.fail(err)
			return nil
		}
	}
	return nil
}

// pause waits, but not beyond the end of the run.
func (r *run) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.halt:
	case <-r.Stop:
	case <-t.C:
	}
}

// fail records the first failure and stops the other workers after their chunk.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
		close(r.halt)
	}
}

// load fills and commits one span, when the rate of rows allows it.
func (r *run) load(ctx context.Context, c *rows.Chunk, l *lane, span chunker.Span) error {
	c.Sent = r.maybeSent(l, span)
	if err := r.Source.Fill(c, span); err != nil {
		return err
	}
	if r.limit != nil {
		if err := r.await(ctx, c.Len()); err != nil {
			return err
		}
	}
	return r.commit(ctx, c, l, span)
}

// await waits until n more rows may be sent, but not beyond the end of the run. A chunk
// larger than a second's worth waits for as long as it takes.
func (r *run) await(ctx context.Context, n int) error {
	for ; n > 0; n -= r.limit.Burst() {
		r.pause(ctx, r.limit.ReserveN(time.Now(), min(n, r.limit.Burst())).Delay())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.halt: // why is known
			return ErrStopped
		case <-r.Stop:
			return ErrStopped
		default:
		}
	}
	return nil
}

// commit commits the span that fills c. A chunk that the server finds too large, or that
// takes too long, is cut in two, and the chunks after it are no larger than its halves.
func (r *run) commit(ctx context.Context, c *rows.Chunk, l *lane, span chunker.Span) error {
	start := r.sent()
	out, err := r.Committer.Commit(ctx, c)
	r.ended(start)
	if out.Looked || err != nil && out.Uncertain {
		if doubt := r.doubt(ctx, l, span, err == nil); doubt != nil {
			return errors.Join(err, doubt)
		}
	}
	switch {
	case err == nil:
		n := int64(c.Len())
		if !out.AlreadyCommitted {
			n -= int64(out.Rejected - len(c.Rejects)) // what was refused of the rows
		}
		r.confirm(ctx, l, span, n, out, time.Since(start))
		return nil
	case !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrSlow):
		if located(err) {
			return err
		}
		return fmt.Errorf("%s: %w", r.place(span), err)
	case c.Len() <= 1:
		return fmt.Errorf("%s: this row alone is more than the server takes: %w", r.place(span), err)
	}
	half := int64(c.Len()+1) / 2
	r.refused(int64(c.Len()), err)
	parts := r.cut(span.Range())
	for {
		// The first half may show that quarters are needed.
		part, err := parts.Next(min(half, r.size()))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.covered(l, part) {
			r.skip(l, part)
			continue
		}
		c.Sent = r.maybeSent(l, part)
		if err := r.Source.Fill(c, part); err != nil {
			return err
		}
		if err := r.commit(ctx, c, l, part); err != nil {
			return err
		}
	}
}

// maybeSent reports whether an attempt whose outcome is not known may have sent a part of
// span.
func (r *run) maybeSent(l *lane, span chunker.Span) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var free int64
	for _, gap := range l.claim.Open.Gaps(span.Range()) {
		free += gap.Len()
	}
	return free < span.Count
}

// doubt records that a span was decided by looking, or that it may have been sent, before
// it counts as anything else.
func (r *run) doubt(ctx context.Context, l *lane, span chunker.Span, looked bool) error {
	r.mu.Lock()
	l.claim.Open.Add(span.Range())
	if looked {
		r.total.Looked.Add(span.Range())
	}
	r.mu.Unlock()
	if q, ok := r.queue.(Doubter); ok {
		return q.Doubt(ctx, span.Range(), looked)
	}
	return nil
}

// size returns how many rows the next chunk holds.
func (r *run) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pace.size
}

// place names a span for an error.
func (r *run) place(span chunker.Span) string { return Place(r.Source, span) }

// Place names a span of a source for an error: rows are counted from 0, as events are.
func Place(src Source, span chunker.Span) string {
	if p, ok := src.(Placer); ok {
		return p.Place(span)
	}
	if span.Count == 1 {
		return fmt.Sprintf("row %d", span.First)
	}
	return fmt.Sprintf("rows %d to %d", span.First, span.End()-1)
}

// located reports whether an error names the record that it is about, so that the place
// of its chunk would only be in the way.
func located(err error) bool {
	var at interface{ Where() rows.Place }
	return errors.As(err, &at)
}

// refused makes the following chunks smaller than one of n rows that the server found
// too large, or did not finish in time.
func (r *run) refused(n int64, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Halved++
	note := ""
	if errors.Is(why, ErrSlow) {
		r.total.Retries++
		note = r.pace.late(n)
	} else {
		note = r.pace.refused(n)
	}
	if note != "" {
		r.crew.again()
		r.observe(Event{Note: fmt.Sprintf("%v; %s", why, note)})
	}
}

// confirm counts a span that is in.
func (r *run) confirm(ctx context.Context, l *lane, span chunker.Span, n int64, out Outcome, elapsed time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.claim.Done.Add(span.Range())
	in := confirmed{Range: span.Range(), rows: n, rejected: int64(out.Rejected), conflicts: int64(out.Conflicts), chunks: 1}
	if out.AlreadyCommitted {
		in.already = n
	}
	l.confirmed = append(l.confirmed, in)
	if out.CommittedRange.Len() > span.Count {
		// Only halves of a chunk can meet this: the whole was in after all.
		// Its other parts are counted when they are skipped.
		l.claim.Done.Add(chunker.Range{First: span.End(), End: min(out.CommittedRange.End, l.claim.End)})
	}
	r.total.Rows += n
	if out.AlreadyCommitted {
		r.total.AlreadyCommittedRows += n
	}
	r.total.Chunks++
	r.total.Rejected += int64(out.Rejected)
	r.total.Conflicts += int64(out.Conflicts)
	r.total.Positions += span.Count
	r.total.Retries += int64(out.Retries)
	r.total.LookUps += int64(out.LookUps)
	r.times = append(r.times, elapsed)
	r.observe(Event{Span: span, Outcome: out, Elapsed: elapsed})
	if note := r.pace.done(n, elapsed, out.Retries); note != "" {
		r.crew.again()
		r.observe(Event{Note: note})
	}
	if out.Throttled {
		if note := r.crew.throttled(); note != "" {
			r.observe(Event{Note: note})
		}
	}
	if note := r.crew.confirmed(n, time.Now()); note != "" {
		r.observe(Event{Note: note})
	}
	r.man(ctx)
}

// skip counts a part of a chunk that is not sent, since all of the chunk is in.
func (r *run) skip(l *lane, part chunker.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.confirmed = append(l.confirmed, confirmed{Range: part.Range(), rows: part.Rows, already: part.Rows})
	r.total.Rows += part.Rows
	r.total.AlreadyCommittedRows += part.Rows
	r.total.Positions += part.Count
	r.observe(Event{Span: part, Outcome: Outcome{AlreadyCommitted: true}})
}

func (r *run) observe(e Event) {
	if r.Observe != nil {
		r.Observe(e)
	}
}

// result returns the total.
func (r *run) result(elapsed time.Duration) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.total
	res.Elapsed, res.RowsPerChunk, res.Workers = elapsed, r.pace.size, r.crew.base
	if n := len(r.times); n > 0 {
		slices.Sort(r.times)
		res.P50, res.P99 = r.times[n/2], r.times[n*99/100]
	}
	return res
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
