package loader

import (
	"fmt"

	"bulkload/chunker"
)

// maxLosses bounds how many times over the server may lose a job's positions. A crash takes
// only the last confirmed moments, so several crashes stay far below it.
const maxLosses = 5

// lose subtracts ranges that the server has lost from the total and reports them. It returns
// an error if the server lost too much to be trusted.
func (r *run) lose(gone []confirmed) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	var ranges []chunker.Range
	for _, x := range gone {
		r.count(x, -1)
		r.lost += x.Len()
		n += x.rows
		ranges = append(ranges, x.Range)
	}
	r.total.Gone += n
	r.observe(Event{Gone: ranges, Note: fmt.Sprintf("a crash of the server lost %d confirmed rows or left them in doubt; they are loaded again", n)})
	if r.Positions > 0 && r.lost > maxLosses*r.Positions {
		return fmt.Errorf("%w: the server loses rows that it has confirmed: %d rows were loaded again and lost again", ErrUnconfirmed, r.total.Gone)
	}
	return nil
}

// doubted reports whether a round had retries, look-ups or losses. The server may then have
// lost confirmed rows, and the queue may have work again.
func (r *run) doubted(before Result) bool {
	return r.Queue != nil && (r.total.Retries > before.Retries || r.total.LookUps > before.LookUps || r.total.Gone > before.Gone)
}

// further returns the run for another round, keeping counts and tuning.
func (r *run) further() *run {
	next := newRun(r.Job)
	next.total, next.lost, next.times, next.tuner = r.total, r.lost, r.times, r.tuner
	next.dispatch.past = r.dispatch.past
	next.working = make([]bool, len(r.working))
	return next
}
