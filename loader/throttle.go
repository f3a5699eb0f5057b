package loader

import "fmt"

// throttledWorkers is the number of workers with which a run goes on, at most, when the
// server lets few transactions be open at once: CockroachDB without a valid licence five,
// of which one is for the registry.
const throttledWorkers = 4

// throttled is told that the server refused a transaction since too many were open. It
// returns what the user should know. More workers are not tried any more.
func (c *workerTuner) throttled() string {
	c.done, c.rates = true, [2][]float64{}
	fewer := min(c.size-1, throttledWorkers)
	if fewer < 1 {
		return ""
	}
	c.base, c.size, c.max = fewer, fewer, fewer
	return fmt.Sprintf("the server refuses more open transactions: going on with %d workers", fewer)
}
