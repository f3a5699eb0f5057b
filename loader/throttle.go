package loader

import "fmt"

// throttledWorkers is the maximum number of workers once the server limits open transactions.
// CockroachDB without a valid licence allows five; the registry needs one of them.
const throttledWorkers = 4

// throttled reduces the workers after the server refused a transaction because too many were
// open, and ends the search for more. It returns a message for the user, or "".
func (c *workerTuner) throttled() string {
	c.done, c.rates = true, [2][]float64{}
	fewer := min(c.size-1, throttledWorkers)
	if fewer < 1 {
		return ""
	}
	c.base, c.size, c.max = fewer, fewer, fewer
	return fmt.Sprintf("the server refuses more open transactions; continuing with %d workers", fewer)
}
