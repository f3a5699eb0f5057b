package loader

import (
	"fmt"
	"slices"
	"time"
)

// A crew decides how many workers a run has, from what the client alone can see: the
// rate. It begins with what the caller knows to be good, and tries twice as many while
// the load is long enough to tell the difference: on another machine a worker mostly
// waits for the network, and the server's processors are not the client's to count.
// The lock of the run guards it.
//
// A trial is trialPairs windows with the workers of before, and as many with the
// trial's, in turn, so that a rate that drifts (a table that grows, a neighbour that
// comes) is not taken for a gain. More workers stay where all of their windows were
// faster than all others, and by leastGain on the average; then twice as many are tried.
// The first trial that brings less ends the search.
//
// Note: tried one long window for each number. On a shared machine with two processors
// a third of the runs then went to eight workers, whose rate was the same.
type crew struct {
	size  int // workers that may take another span
	most  int // never more; size where nothing is to be tried
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
	leastGain    = 1.10
)

// begun is told when the run begins.
func (c *crew) begun(now time.Time) {
	c.since = now.Add(warmUp)
	c.done = c.most <= c.size
	c.base = c.size
}

// confirmed is told of a chunk that is in. It returns what the user should know; size
// may be another then.
func (c *crew) confirmed(rows int64, now time.Time) string {
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
	c.turn(map[bool]int{true: c.base, false: min(2*c.base, c.most)}[more == 1])
	return ""
}

// turn begins a window with n workers.
func (c *crew) turn(n int) {
	// What the workers of the window before have in hand ends in this one.
	c.skip = max(c.size, n)
	c.size, c.rows, c.chunks = n, 0, 0
}

// again forgets a trial, since something else than the workers changed.
func (c *crew) again() {
	if !c.done && len(c.rates[0]) > 0 {
		c.rates = [2][]float64{}
		c.turn(c.base)
	}
}

// judge ends a trial.
func (c *crew) judge() string {
	before, with := c.rates[0], c.rates[1]
	gain := mean(with) / mean(before)
	tried := c.size
	c.rates = [2][]float64{}
	if gain < leastGain || slices.Min(with) <= slices.Max(before) {
		c.done = true
		c.turn(c.base)
		return fmt.Sprintf("settled on %d workers: %d load %s", c.base, tried, compared(gain))
	}
	c.base = tried
	c.turn(tried)
	if c.done = tried == c.most; c.done {
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
