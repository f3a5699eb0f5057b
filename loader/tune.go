package loader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"bulkload/chunker"
)

// A tuner sets the rows of the next chunk and the number of workers. The run's lock guards it.
type tuner struct {
	chunks  chunkSizer
	workers workerTuner
}

// newTuner returns the tuner of a job.
func newTuner(j *Job) tuner {
	var t tuner
	t.workers = workerTuner{size: j.Workers, max: j.MaxWorkers, waits: j.Waits}
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

// refused handles a chunk of n rows that was not committed, because of ErrTooLarge or ErrSlow.
// It returns a message for the user, or "".
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

// confirmed handles a confirmed chunk of n rows. It returns messages for the user.
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
	if out.Retries == 0 {
		if note := t.workers.fill(elapsed); note != "" {
			notes = append(notes, note)
		}
	}
	if note := t.workers.confirmed(n, time.Now()); note != "" {
		notes = append(notes, note)
	}
	return notes
}

// A chunkSizer sets the rows of the next chunk from what the client can observe: refusals,
// retries and latency. It begins with the plan's size, which is good under normal conditions.
// It shrinks at once and grows slowly. The run's lock guards it.
//
// Note: tried to grow by the measured rate as well. The rates of equal chunks differ by more
// than 30 % on a quiet server, so the climb became a random walk. The benchmark repeats and
// interleaves; use it to find a better size.
type chunkSizer struct {
	size  int64 // rows of the next chunk
	max   int64 // upper bound: the plan's size or Job.MaxRows, or less after a refusal
	fixed bool  // the user set the size; only a refusal or a deadline changes it
	flow  bool  // server has flow control: latency does not depend on size

	quiet   int // chunks since the last retried one or the last change
	retried int // retried chunks among the last retryWindow
	recent  [retryWindow]bool
	at      int
}

const (
	// slowChunk is the latency above which chunks shrink: a slow chunk holds its locks long
	// and repeats much work after a failure. The deadline of an attempt is far above it.
	slowChunk = 2 * time.Second
	// Of the last retryWindow chunks, maxRetried retried ones make chunks shrink: smaller
	// transactions conflict less.
	retryWindow = 16
	maxRetried  = 4
	// quietChunks without a retry let the size grow by a quarter.
	quietChunks = 32
	// minRows is the minimum size, except after a refusal or a missed deadline.
	minRows = 50
)

// refused handles a chunk of n rows that was too large for the server. It returns a message
// for the user, or "".
func (p *chunkSizer) refused(n int64) string {
	half := max((n+1)/2, 1)
	p.max = min(p.max, half)
	if half >= p.size {
		return ""
	}
	p.size, p.quiet = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// late handles a chunk of n rows that missed its deadline. It returns a message for the user,
// or "". Unlike after a refusal, the size may grow back: the server may have been busy.
func (p *chunkSizer) late(n int64) string {
	half := max((n+1)/2, 1)
	if half >= p.size {
		return ""
	}
	p.size, p.quiet = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// done handles a confirmed chunk: its rows, latency and number of retries.
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

// A workerTuner sets the number of workers from the rate that the client observes. It begins
// with a number known to be good and tries twice as many if the load lasts long enough to tell
// the difference. A worker with a remote server mostly waits for the network, and the client
// does not know the server's processors. The run's lock guards it.
//
// A trial alternates trialPairs windows with the old number of workers and as many with the
// new one, so that a drifting rate (a growing table, a new neighbour) does not look like a
// gain. The new number stays if each of its windows was faster than all old ones, and the
// average gain is at least minGain; then the next trial doubles it again. The first trial
// without such a gain ends the search.
//
// Note: tried one long window per number. On a shared machine with two processors a third of
// the runs then settled on eight workers, whose rate was the same.
type workerTuner struct {
	size  int // workers that may take another span
	max   int // upper bound; equal to size if there is nothing to try
	base  int // in a trial: the number to compare with
	rates [2][]float64

	since  time.Time // start of the window
	rows   int64
	chunks int
	skip   int // chunks to skip, as they belong to the previous window
	done   bool

	// For fill:
	waits    time.Duration // of a chunk for the network; zero is unknown
	seen     int           // chunks since the last change, without those that were in flight then
	shortest time.Duration // latency of those
	before   time.Duration // shortest with half as many workers; zero is unknown
}

// fill handles the latency of a confirmed chunk before the first trial. It doubles the workers
// while a chunk waits for the network longer than for the server. As soon as the server or the
// link's bandwidth is full, chunks take longer, and no more workers are added. The shortest
// latency counts, since a worker's first chunk may open a session. It returns a message for the
// user, or "".
func (c *workerTuner) fill(elapsed time.Duration) string {
	if c.done || c.waits == 0 || len(c.rates[0]) > 0 {
		return ""
	}
	if c.seen++; c.seen == 1 || c.seen > 1 && elapsed < c.shortest {
		c.shortest = elapsed
	}
	if c.seen < c.size {
		return ""
	}
	c.seen = 0
	if c.shortest >= 2*c.waits {
		return ""
	}
	if c.before > 0 && c.shortest > c.before+c.before/8 {
		c.waits = 0 // the server shares its time among them
		return ""
	}
	c.seen, c.before = -c.size, c.shortest
	c.size = min(2*c.size, c.max)
	c.base, c.rows, c.chunks = c.size, 0, 0
	c.done = c.size == c.max
	return fmt.Sprintf("a chunk waits %s for the network; continuing with %d workers", c.waits.Round(time.Millisecond), c.size)
}

const (
	// warmUp is the time at the start of a run whose rates are ignored: ranges split, caches
	// fill, statements are prepared.
	warmUp = 2 * time.Second
	// trialWindow is the minimum time of a window, and windowChunks the minimum number of
	// chunks per worker.
	trialWindow  = time.Second
	windowChunks = 4
	trialPairs   = 3
	minGain      = 1.10
)

// begun starts the tuner at the start of the run.
func (c *workerTuner) begun(now time.Time) {
	c.since = now.Add(warmUp)
	c.done = c.max <= c.size
	c.base = c.size
}

// confirmed handles a confirmed chunk. It returns a message for the user, or ""; size may have
// changed then.
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

// window starts a window with n workers.
func (c *workerTuner) window(n int) {
	// Chunks in flight from the previous window end in this one.
	c.skip = max(c.size, n)
	c.size, c.rows, c.chunks = n, 0, 0
}

// reset discards a trial because something other than the workers changed.
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
		return fmt.Sprintf("settled on %d workers: a trial of %d workers loaded %s", c.base, tried, compared(gain))
	}
	was := c.base
	c.base = tried
	c.window(tried)
	if c.done = tried == c.max; c.done {
		return fmt.Sprintf("settled on %d workers, the maximum: they load %s than %d workers", tried, compared(gain), was)
	}
	return fmt.Sprintf("now %d workers: they load %s than %d workers", tried, compared(gain), was)
}

// compared describes a gain in words.
func compared(gain float64) string {
	switch percent := 100 * (gain - 1); {
	case percent >= 1:
		return fmt.Sprintf("%.0f %% more rows/s", percent)
	case percent <= -1:
		return fmt.Sprintf("%.0f %% fewer rows/s", -percent)
	}
	return "the same rows/s"
}

func mean(list []float64) float64 {
	var sum float64
	for _, x := range list {
		sum += x
	}
	return sum / float64(len(list))
}
