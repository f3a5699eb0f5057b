package loader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"bulkload/chunker"
)

// A tuner decides how many rows the next chunk holds and how many workers there are. The
// lock of the run guards it.
type tuner struct {
	chunks  chunkSizer
	workers workerTuner
}

// newTuner returns the tuner of a job.
func newTuner(j *Job) tuner {
	var t tuner
	t.workers = workerTuner{size: j.Workers, max: j.MaxWorkers}
	if t.workers.size == 0 {
		t.workers.size = DefaultWorkers
	}
	size := j.Plan.RowsPerChunk
	if size == 0 {
		size = chunker.DefaultRowsPerChunk
	}
	t.chunks = chunkSizer{size: size, max: max(size, j.MaxRows), fixed: !j.AutoTune, flow: j.FlowControlled}
	return t
}

// refused is told that a chunk of n rows did not go in: why is ErrTooLarge or ErrSlow. It
// returns what the user should know.
func (t *tuner) refused(n int64, why error) string {
	var note string
	if errors.Is(why, ErrSlow) {
		note = t.chunks.late(n)
	} else {
		note = t.chunks.refused(n)
	}
	if note != "" {
		t.workers.reset()
		note = fmt.Sprintf("%v; %s", why, note)
	}
	return note
}

// confirmed is told of a chunk of n rows that is in. It returns what the user should know.
func (t *tuner) confirmed(n int64, elapsed time.Duration, out Outcome) (notes []string) {
	if note := t.chunks.done(n, elapsed, out.Retries); note != "" {
		t.workers.reset()
		notes = append(notes, note)
	}
	if out.Throttled {
		if note := t.workers.throttled(); note != "" {
			notes = append(notes, note)
		}
	}
	if note := t.workers.confirmed(n, time.Now()); note != "" {
		notes = append(notes, note)
	}
	return notes
}

// A chunkSizer decides how many rows the next chunk holds, from what the client alone can
// see: refusals, retries and the time of a chunk. It begins with the plan's size, which
// is good where nothing unusual happens; it goes down at once and up slowly. The lock of
// the run guards it.
//
// Note: tried to climb by the measured rate as well. Chunks of one size differ by more
// than 30 % on a quiet server, so that the climb was a walk at random; the benchmark,
// which repeats and interleaves, is the place to look for a better size.
type chunkSizer struct {
	size  int64 // rows of the next chunk
	max   int64 // never more: the plan's, or less after a refusal
	fixed bool  // the user named the size; only a refusal or a deadline changes it
	flow  bool  // a slow chunk says nothing of its size

	quiet   int // chunks since the last retried one or change
	retried int // retried chunks among the last retryWindow
	recent  [retryWindow]bool
	at      int
}

const (
	// slowChunk is the time of a chunk above which it is made smaller: it holds
	// its locks, and repeats as much after a failure. The deadline of an attempt is
	// far above it.
	slowChunk = 2 * time.Second
	// retryWindow chunks are remembered; when maxRetried of them were retried,
	// chunks are made smaller, for a smaller transaction collides less.
	retryWindow = 16
	maxRetried  = 4
	// quietChunks without a retry let the size grow by a quarter.
	quietChunks = 32
	// minRows is the size below which only a refusal goes.
	minRows = 50
)

// refused is told that the server found a chunk of n rows too large. It returns what
// the user should know.
func (p *chunkSizer) refused(n int64) string {
	half := max((n+1)/2, 1)
	p.max = min(p.max, half)
	if half >= p.size {
		return ""
	}
	p.size, p.quiet = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// late is told that a chunk of n rows did not go in within its time. It returns what the
// user should know. In contrast to a refusal the size may come again: the server may
// have been busy.
func (p *chunkSizer) late(n int64) string {
	half := max((n+1)/2, 1)
	if half >= p.size {
		return ""
	}
	p.size, p.quiet = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// done is told of a chunk that is in: its rows, its time and how often it was retried.
func (p *chunkSizer) done(n int64, elapsed time.Duration, retries int) string {
	if p.fixed {
		return ""
	}
	if p.recent[p.at] {
		p.retried--
	}
	p.recent[p.at] = retries > 0
	if retries > 0 {
		p.retried++
		p.quiet = 0
	}
	p.at = (p.at + 1) % retryWindow
	switch {
	case elapsed > slowChunk && retries == 0 && n >= p.size && !p.flow:
		return p.shrink(fmt.Sprintf("a chunk of %d rows took %s", n, elapsed.Round(100*time.Millisecond)))
	case p.retried >= maxRetried:
		return p.shrink(fmt.Sprintf("%d of the last %d chunks were retried", p.retried, retryWindow))
	case p.quiet >= quietChunks && p.size < p.max:
		p.size, p.quiet = min(p.size+max(p.size/4, 1), p.max), 0
	default:
		p.quiet++
	}
	return ""
}

func (p *chunkSizer) shrink(why string) string {
	p.quiet, p.retried, p.recent = 0, 0, [retryWindow]bool{}
	half := max(p.size/2, min(minRows, p.size))
	if half == p.size {
		return ""
	}
	p.size = half
	return fmt.Sprintf("%s; chunks now hold %d rows", why, half)
}

// A workerTuner decides how many workers a run has, from what the client alone can see: the
// rate. It begins with what the caller knows to be good, and tries twice as many while
// the load is long enough to tell the difference: on another machine a worker mostly
// waits for the network, and the server's processors are not the client's to count.
// The lock of the run guards it.
//
// A trial is trialPairs windows with the workers of before, and as many with the
// trial's, in turn, so that a rate that drifts (a table that grows, a neighbour that
// comes) is not taken for a gain. More workers stay where all of their windows were
// faster than all others, and by minGain on the average; then twice as many are tried.
// The first trial that brings less ends the search.
//
// Note: tried one long window for each number. On a shared machine with two processors
// a third of the runs then went to eight workers, whose rate was the same.
type workerTuner struct {
	size  int // workers that may take another span
	max   int // never more; size where nothing is to be tried
	base  int // in a trial: the number that is compared
	rates [2][]float64

	since  time.Time // begin of the window
	rows   int64
	chunks int
	skip   int // chunks that still belong to the window before
	done   bool
}

const (
	// warmUp is how long the first rates of a run say nothing: ranges split,
	// caches fill, statements are prepared.
	warmUp = 2 * time.Second
	// trialWindow is the least time of a window, and windowChunks the fewest
	// chunks for each worker.
	trialWindow  = time.Second
	windowChunks = 4
	trialPairs   = 3
	minGain      = 1.10
)

// begun is told when the run begins.
func (c *workerTuner) begun(now time.Time) {
	c.since = now.Add(warmUp)
	c.done = c.max <= c.size
	c.base = c.size
}

// confirmed is told of a chunk that is in. It returns what the user should know; size
// may be another then.
func (c *workerTuner) confirmed(rows int64, now time.Time) string {
	switch {
	case c.done || now.Before(c.since):
		return ""
	case c.skip > 0:
		if c.skip--; c.skip == 0 {
			c.since = now
		}
		return ""
	}
	c.rows += rows
	c.chunks++
	length := now.Sub(c.since)
	if length < trialWindow || c.chunks < windowChunks*c.size {
		return ""
	}
	more := 0
	if c.size != c.base {
		more = 1
	}
	c.rates[more] = append(c.rates[more], float64(c.rows)/length.Seconds())
	if len(c.rates[1]) == trialPairs {
		return c.judge()
	}
	c.window(map[bool]int{true: c.base, false: min(2*c.base, c.max)}[more == 1])
	return ""
}

// window begins a window with n workers.
func (c *workerTuner) window(n int) {
	// What the workers of the window before have in hand ends in this one.
	c.skip = max(c.size, n)
	c.size, c.rows, c.chunks = n, 0, 0
}

// reset forgets a trial, since something else than the workers changed.
func (c *workerTuner) reset() {
	if !c.done && len(c.rates[0]) > 0 {
		c.rates = [2][]float64{}
		c.window(c.base)
	}
}

// judge ends a trial.
func (c *workerTuner) judge() string {
	before, with := c.rates[0], c.rates[1]
	gain := mean(with) / mean(before)
	tried := c.size
	c.rates = [2][]float64{}
	if gain < minGain || slices.Min(with) <= slices.Max(before) {
		c.done = true
		c.window(c.base)
		return fmt.Sprintf("settled on %d workers: %d load %s", c.base, tried, compared(gain))
	}
	c.base = tried
	c.window(tried)
	if c.done = tried == c.max; c.done {
		return fmt.Sprintf("settled on %d workers: they load %s, and more are not tried", tried, compared(gain))
	}
	return fmt.Sprintf("%d workers load %s; going on with them", tried, compared(gain))
}

// compared says how one rate is to another.
func compared(gain float64) string {
	switch percent := 100 * (gain - 1); {
	case percent >= 1:
		return fmt.Sprintf("%.0f %% more rows/s", percent)
	case percent <= -1:
		return fmt.Sprintf("%.0f %% fewer rows/s", -percent)
	}
	return "no more rows/s"
}

func mean(list []float64) float64 {
	var sum float64
	for _, x := range list {
		sum += x
	}
	return sum / float64(len(list))
}
