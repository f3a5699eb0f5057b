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

// A Cutter is a Source whose positions are not row numbers, and which therefore
// cuts its spans itself: a file, whose records end where the scanner finds them.
type Cutter interface {
	// Cut returns the spans of r, which begins and ends between two records.
	Cut(r chunker.Range) Spans
}

// Spans gives one span after the other. It is used by one goroutine at a time.
type Spans interface {
	// Next returns the next span, of at most rows rows; io.EOF behind the last.
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

// cut returns the spans of the given ranges.
func (r *run) cut(ranges ...chunker.Range) Spans {
	if c, ok := r.Source.(Cutter); ok {
		s := make(chain, len(ranges))
		for i, x := range ranges {
			s[i] = c.Cut(x)
		}
		return &s
	}
	s := rowSpans(slices.Clone(ranges))
	return &s
}

// chain gives the spans of several Spans, one behind the other.
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

// A Holder is a Source that holds what cannot be read a second time until its span is
// committed.
type Holder interface {
	// Done is told so.
	Done(span chunker.Span)
}

// A lane is a claim that workers take spans from.
type lane struct {
	claim Claim
	owner int  // the worker that asked for the claim
	open  int  // spans being worked on
	spent bool // spans has no more

	cutting sync.Mutex // guards spans, which may wait for a disk; taken before run.mu
	spans   Spans
}

// run is the state of one Run.
type run struct {
	*Job
	queue Queue
	halt  chan struct{} // closed with the first failure

	group errgroup.Group // of the workers

	// books is held while the queue writes, so that no checkpoint of a claim
	// arrives after the claim was given back, and looks like a lost one.
	books sync.Mutex

	// claimed gives what the claimer learned to a worker that waits for it.
	claimed chan error
	over    chan struct{}  // closed when the workers have returned
	writes  sync.WaitGroup // claims being given back

	limit *rate.Limiter // of rows; nil is none

	mu      sync.Mutex // guards what follows
	reserve sync.Cond  // signals that the lane in reserve was taken up, or closing
	closing bool
	lanes   []*lane
	pace    pace
	crew    crew
	working []bool // by worker: it takes spans
	// began are the times at which the chunks under way were first sent.
	began   []time.Time
	failure error
	times   []time.Duration
	total   Result
}

func newRun(j *Job) *run {
	r := &run{
		Job: j, queue: j.Queue,
		halt: make(chan struct{}), claimed: make(chan error), over: make(chan struct{}),
	}
	r.reserve.L = &r.mu
	r.crew = crew{size: j.Workers, most: j.MostWorkers}
	if r.crew.size == 0 {
		r.crew.size = DefaultWorkers
	}
	r.working = make([]bool, max(r.crew.size, r.crew.most))
	size := j.Plan.RowsPerChunk
	if size == 0 {
		size = chunker.DefaultRowsPerChunk
	}
	r.pace = pace{size: size, most: max(size, j.MostRows), fixed: !j.Adapt}
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

// man starts the workers that the crew has and that do not work. The run is locked.
func (r *run) man(ctx context.Context) {
	for worker := range r.crew.size {
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
			r.pause(ctx, busyPoll)
			continue
		case err == nil:
			if err = r.load(ctx, c, l, span); err == nil {
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
	}
	return span, err
}

// load fills and commits one span. A chunk that the server finds too large, or that
// takes too long, is cut in two, and the chunks after it are no larger than its halves.
func (r *run) load(ctx context.Context, c *rows.Chunk, l *lane, span chunker.Span) error {
	if err := r.Source.Fill(c, span); err != nil {
		return err
	}
	if r.limit != nil {
		// A chunk larger than a second's worth waits for as long as it takes.
		for n := c.Len(); n > 0; n -= r.limit.Burst() {
			if err := r.limit.WaitN(ctx, min(n, r.limit.Burst())); err != nil {
				return err
			}
		}
	}
	start := r.sent()
	out, err := r.Committer.Commit(ctx, c)
	r.answered(start)
	switch {
	case err == nil:
		n := int64(c.Len())
		if !out.Already {
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
			continue
		}
		if err := r.load(ctx, c, l, part); err != nil {
			return err
		}
	}
}

// size returns how many rows the next chunk holds.
func (r *run) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pace.size
}

// covered reports whether the ledger turned out to have all of span, from an
// attempt at a larger chunk that was believed lost.
func (r *run) covered(l *lane, span chunker.Span) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.claim.Done.Covers(span.Range())
}

// place names a span for an error: rows are counted from 0, as the events are.
func (r *run) place(span chunker.Span) string {
	if p, ok := r.Source.(interface{ Place(chunker.Span) string }); ok {
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
	if out.Covers.Len() > span.Count {
		// Only halves of a chunk can meet this: the whole was in after all.
		extra := chunker.Range{First: span.End(), End: min(out.Covers.End, l.claim.End)}
		l.claim.Done.Add(extra)
		n += extra.Len()
	}
	r.total.Rows += n
	if out.Already {
		r.total.AlreadyRows += n
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
	if note := r.crew.confirmed(n, time.Now()); note != "" {
		r.observe(Event{Note: note})
	}
	r.man(ctx)
}

func (r *run) observe(e Event) {
	if r.Observe != nil {
		r.Observe(e)
	}
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
		r.mu.Unlock()
		if err := r.queue.Release(ctx, l.claim); err != nil && ctx.Err() == nil {
			r.fail(fmt.Errorf("record rows %d to %d as done: %w", l.claim.First, l.claim.End-1, err))
		}
	})
}

// finish ends what runs beside the workers.
func (r *run) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closing = true
	r.reserve.Broadcast()
	close(r.over)
}

// sent notes that a chunk is under way.
func (r *run) sent() time.Time {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = append(r.began, now)
	return now
}

// answered notes that a chunk that was sent at start is not under way any more.
func (r *run) answered(start time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.began, start); i >= 0 {
		r.began = slices.Delete(r.began, i, i+1)
	}
}

// mostQuiet bounds the time without a checkpoint. It is below the time after which
// others take a run without a sign of life for dead.
const mostQuiet = 10 * time.Second

// disturbs reports whether a checkpoint now, after one at last, would be the second that
// meets a chunk under way. CockroachDB begins a transaction again when the row of the
// claim that it has read changes: seen on 21.1, a chunk that took longer than the time
// between two checkpoints was begun again for ever.
func (r *run) disturbs(last time.Time) bool {
	if time.Since(last) >= mostQuiet {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.began, func(t time.Time) bool { return t.Before(last) })
}

// keep writes checkpoints until the workers have returned. A checkpoint that fails for another
// reason than a lost claim is made up for by the next one.
func (r *run) keep(ctx context.Context) {
	tick := time.NewTicker(CheckpointEvery)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		for waiting := true; waiting; waiting = r.disturbs(last) {
			select {
			case <-r.over:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		if err := r.checkpoint(ctx); errors.Is(err, ErrLost) {
			r.fail(err)
			return
		}
	}
}

func (r *run) checkpoint(ctx context.Context) error {
	r.books.Lock()
	defer r.books.Unlock()
	return r.queue.Checkpoint(ctx, r.claims())
}

// claims returns copies of the claims that are held.
func (r *run) claims() []Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Claim, len(r.lanes))
	for i, l := range r.lanes {
		list[i].Range = l.claim.Range
		list[i].Done.AddAll(l.claim.Done)
	}
	return list
}

// releaseAll gives back what the run still holds, so that another can go on at once.
func (r *run) releaseAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for _, c := range r.claims() {
		if err := r.queue.Release(ctx, c); err != nil && !errors.Is(err, ErrLost) {
			return fmt.Errorf("give back what is not loaded: %w", err)
		}
	}
	return nil
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

func (q *localQueue) Claim(context.Context, int64) (Claim, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left.Len() <= 0 {
		return Claim{}, io.EOF
	}
	c := Claim{Range: q.left}
	q.left.First = q.left.End
	return c, nil
}

func (q *localQueue) Checkpoint(context.Context, []Claim) error { return nil }
func (q *localQueue) Release(context.Context, Claim) error      { return nil }
