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
	"bulkload/loader/latency"
	"bulkload/loader/rows"
)

// busyPoll is how often a run that waits for other runs asks whether they are done.
const busyPoll = 200 * time.Millisecond

// releaseTimeout bounds the release of leases at the end of a run. Other runs take over an
// unreleased lease once this run's sessions are gone.
const releaseTimeout = 5 * time.Second

// run is the state of one Job.Run: workers, total and failure.
type run struct {
	*Job
	dispatch *dispatcher
	activity activity
	halt     chan struct{}  // closed at the first failure
	group    errgroup.Group // of the workers
	limit    *rate.Limiter  // of rows; nil means no limit

	mu      sync.Mutex // guards the fields below; taken before the dispatcher's lock
	tuner   tuner
	working []bool // by worker: it is running
	failure error
	hung    []error           // places of the input that do not answer
	times   latency.Histogram // latencies of chunks
	total   Result
	lost    int64 // positions lost by the server, counted at each loss
}

func newRun(j *Job) *run {
	r := &run{Job: j, halt: make(chan struct{}), tuner: newTuner(j)}
	r.working = make([]bool, max(r.tuner.workers.size, r.tuner.workers.max))
	if j.RowsPerSecond > 0 {
		r.limit = rate.NewLimiter(rate.Limit(j.RowsPerSecond), max(int(j.RowsPerSecond), 1))
		r.limit.AllowN(time.Now(), r.limit.Burst()) // no burst in the first second
		r.tuner.workers.max = r.tuner.workers.size  // more workers would only wait
	}
	r.dispatch = &dispatcher{
		queue: j.Queue, inOrder: j.InOrder, cut: r.cut, size: r.size, workers: r.workers, waits: j.Waits, fail: r.fail, lost: r.lose, activity: &r.activity,
		stop: j.Stop, halt: r.halt, over: make(chan struct{}),
		queueMu: make(chan struct{}, 1), changed: make(chan struct{}), lastAnswer: make([]int, len(r.working)),
	}
	if j.Queue == nil {
		r.dispatch.queue = &localQueue{left: chunker.Range{End: j.Positions}}
	}
	return r
}

// run runs rounds until the queue has no more work. It returns when all goroutines have ended.
func (r *run) run(ctx context.Context) (Result, error) {
	start := time.Now()
	r.tuner.workers.begun(start)
	err := r.round(ctx)
	for before := (Result{}); err == nil && ctx.Err() == nil && r.doubted(before); err = r.round(ctx) {
		before = r.total
		r = r.further()
	}
	res := r.result(time.Since(start))
	if err == nil && r.Queue == nil && res.Positions != r.Positions {
		err = fmt.Errorf("%w: %d of %d positions", ErrUnconfirmed, res.Positions, r.Positions)
	}
	return res, err
}

// round works until the queue has no more work, then releases the leases.
func (r *run) round(ctx context.Context) error {
	r.mu.Lock()
	r.startWorkers(ctx)
	r.mu.Unlock()
	var beside sync.WaitGroup
	beside.Go(func() { r.dispatch.checkpoints(ctx) })
	beside.Go(func() { r.watch(ctx) })
	claiming, giveUp := context.WithCancel(ctx)
	defer giveUp()
	beside.Go(func() { r.dispatch.claimAhead(claiming) })
	err := r.group.Wait()
	close(r.dispatch.over)
	// A running claim may finish, so that its lease can be released. But if the server has
	// failed, the claim would retry for as long as the retry limit allows.
	impatient := time.AfterFunc(releaseTimeout, giveUp)
	beside.Wait()
	r.dispatch.announcing.Wait()
	impatient.Stop()
	r.dispatch.releases.Wait()
	if err == nil {
		err = r.failure
	}
	if err == nil {
		err = errors.Join(r.hung...)
	}
	if ctx.Err() == nil {
		// After the end of ctx nothing more is sent: the user wants out. The next run finds
		// these leases without live sessions.
		err = errors.Join(err, r.dispatch.releaseAll(ctx))
	}
	return err
}

// startWorkers starts missing workers, at most one per chunk: each needs a session. The caller
// holds the lock.
func (r *run) startWorkers(ctx context.Context) {
	needed := r.tuner.workers.size
	if r.Plan.Chunks > 0 {
		needed = int(min(int64(needed), r.Plan.Chunks))
	}
	for worker := range needed {
		if !r.working[worker] {
			r.working[worker] = true
			// A worker returns only the error of ctx: after the failure of one worker, the
			// others finish their chunks.
			r.group.Go(func() error { return r.work(ctx, worker) })
		}
	}
}

// retired reports whether the worker exceeds the wanted number, and then retires it.
func (r *run) retired(worker int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if worker < r.tuner.workers.size {
		return false
	}
	r.working[worker] = false
	r.dispatch.retire(worker)
	return true
}

// work runs one worker: it takes spans until there are none left or it is retired. It returns
// only the error of ctx; r.fail records every other failure.
func (r *run) work(ctx context.Context, worker int) error {
	c := rows.NewChunk(r.Source.Columns())
	for !r.retired(worker) {
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
		l, span, err := r.dispatch.next(ctx, worker)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrBusy):
			done := r.activity.begin()
			r.pause(ctx, busyPoll)
			done()
			continue
		case err == nil:
			done := r.activity.begin()
			err = r.load(ctx, c, l, span)
			done()
			if err == nil {
				if h, ok := r.Source.(Holder); ok {
					h.Done(span)
				}
				r.dispatch.close(ctx, l)
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if r.setAside(err) {
				continue
			}
			r.fail(err)
			return nil
		}
	}
	return nil
}

// setAside records a place of the input that does not answer, and reports whether the run goes
// on with the others. The lease stays held, so that the run does not claim the place again.
func (r *run) setAside(err error) bool {
	if !errors.Is(err, ErrHung) || r.Ordered {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.hung, func(x error) bool { return x.Error() == err.Error() }) {
		r.hung = append(r.hung, err)
	}
	return true
}

// pause waits for d, but not beyond the end of the run.
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

// fail records the first failure and stops the other workers after their current chunk.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
		close(r.halt)
	}
}

// load fills and commits one span, within the rate limit.
func (r *run) load(ctx context.Context, c *rows.Chunk, l *heldLease, span chunker.Span) error {
	c.Sent = r.dispatch.maybeSent(l, span)
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

// await waits until the rate limit allows n more rows, but not beyond the end of the run. A
// chunk of more rows than one second allows waits accordingly longer.
func (r *run) await(ctx context.Context, n int) error {
	for ; n > 0; n -= r.limit.Burst() {
		r.pause(ctx, r.limit.ReserveN(time.Now(), min(n, r.limit.Burst())).Delay())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.halt: // r.failure is already set
			return ErrStopped
		case <-r.Stop:
			return ErrStopped
		default:
		}
	}
	return nil
}

// commit commits the span in c. A chunk that is too large for the server or too slow is split
// in two, and later chunks are no larger than its halves.
func (r *run) commit(ctx context.Context, c *rows.Chunk, l *heldLease, span chunker.Span) error {
	start := r.dispatch.sent()
	out, err := r.Committer.Commit(ctx, c)
	r.dispatch.ended(start)
	if out.LookedUp || err != nil && out.Uncertain {
		if doubt := r.doubt(ctx, l, span, err == nil); doubt != nil {
			return errors.Join(err, doubt)
		}
	}
	switch {
	case err == nil:
		n := int64(c.Len())
		if !out.AlreadyCommitted {
			n -= int64(out.Rejected - len(c.Rejects)) // rows rejected by the server
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
		// The first half may turn out to need quarters.
		part, err := parts.Next(min(half, r.size()))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.dispatch.committed(l, part) {
			r.skip(l, part)
			continue
		}
		c.Sent = r.dispatch.maybeSent(l, part)
		if err := r.Source.Fill(c, part); err != nil {
			return err
		}
		if err := r.commit(ctx, c, l, part); err != nil {
			return err
		}
	}
}

// doubt records that a look-up decided a span, or that it may have been sent.
func (r *run) doubt(ctx context.Context, l *heldLease, span chunker.Span, looked bool) error {
	if looked {
		r.mu.Lock()
		r.total.LookedUp.Add(span.Range())
		r.mu.Unlock()
	}
	return r.dispatch.doubt(ctx, l, span, looked)
}

// cut returns the spans of the given ranges.
func (r *run) cut(ranges ...chunker.Range) Spans { return Cut(r.Source, ranges...) }

// size returns the rows per chunk for the next chunk.
func (r *run) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tuner.chunks.size
}

// workers returns the number of workers.
func (r *run) workers() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.tuner.workers.size)
}

// place formats the position of a span for an error.
func (r *run) place(span chunker.Span) string { return Place(r.Source, span) }

// Place formats the position of a span for an error. Row numbers count from 0, as in events.
func Place(src Source, span chunker.Span) string {
	if p, ok := src.(Placer); ok {
		return p.Place(span)
	}
	if span.Count == 1 {
		return fmt.Sprintf("row %d", span.First)
	}
	return fmt.Sprintf("rows %d to %d", span.First, span.End()-1)
}

// located reports whether an error already names its record, so that the position of the chunk
// would only distract.
func located(err error) bool {
	var at interface{ Where() rows.Place }
	return errors.As(err, &at)
}
