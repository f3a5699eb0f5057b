package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"bulkload/chunker"
)

// maxLosses is how many times over the server may lose a job's positions. A crash takes
// what the last moments confirmed, so that several crashes stay far below it.
const maxLosses = 5

// A confirmed range is what one event added to the total.
type confirmed struct {
	chunker.Range
	rows, already, rejected, conflicts, chunks int64
}

// giveBack releases the claim of a lane, and takes out of the total what the server does
// not have any more.
func (r *run) giveBack(ctx context.Context, l *lane, c Lease) error {
	err := r.queue.Release(ctx, c)
	var gone *GoneError
	if err != nil && !errors.As(err, &gone) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone != nil {
		l.confirmed = r.lose(l.confirmed, gone.Ranges)
		if r.Positions > 0 && r.lost > maxLosses*r.Positions {
			return fmt.Errorf("%w: the server does not keep what it confirms: %d rows were sent again, and are gone again", ErrUnconfirmed, r.total.Gone)
		}
	}
	r.past = append(r.past, l.confirmed...)
	l.confirmed = nil
	return nil
}

// lose takes what lies in ranges out of the total, says so, and returns the rest of list.
// The run is locked.
func (r *run) lose(list []confirmed, ranges []chunker.Range) []confirmed {
	before := r.total
	var gone []chunker.Range
	rest := slices.DeleteFunc(list, func(x confirmed) bool {
		if !slices.ContainsFunc(ranges, func(g chunker.Range) bool { return g.First < x.End && x.First < g.End }) {
			return false
		}
		gone = append(gone, x.Range)
		r.total.Rows -= x.rows
		r.total.AlreadyCommittedRows -= x.already
		r.total.Rejected -= x.rejected
		r.total.Conflicts -= x.conflicts
		r.total.Chunks -= x.chunks
		r.total.Positions -= x.Len()
		r.lost += x.Len()
		return true
	})
	if n := before.Rows - r.total.Rows; len(gone) > 0 {
		r.total.Gone += n
		r.observe(Event{Gone: gone, Note: fmt.Sprintf("after a crash of the server %d rows that it had confirmed are gone or in doubt; they are loaded again", n)})
	}
	return rest
}

// doubted reports whether a round of the run met anything behind which the server may have
// lost what it had confirmed, so that the queue has work again.
func (r *run) doubted(before Result) bool {
	return r.Queue != nil && (r.total.Retries > before.Retries || r.total.LookUps > before.LookUps || r.total.Gone > before.Gone)
}

// further returns the run for another round, with what was counted and learned so far.
func (r *run) further() *run {
	next := newRun(r.Job)
	next.total, next.lost, next.times, next.past = r.total, r.lost, r.times, r.past
	next.pace, next.crew = r.pace, r.crew
	next.working = make([]bool, len(r.working))
	return next
}
