package loader

import (
	"context"
	"fmt"
	"time"
)

// underWay notes that something is under way that ends by itself, or that has a time limit
// of its own, until the function that it returns is called. Checkpoints are not noted: a
// run that does nothing else writes them too.
func (r *run) underWay() (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
	r.moves++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active--
	}
}

// stallLooks is the number of looks, one behind the other, that must find nothing under
// way. A process that was stopped for hours makes one of them, not all.
const stallLooks = 8

// watch ends a run in which nothing is under way for longer than StallTimeout.
func (r *run) watch(ctx context.Context) {
	timeout := r.StallTimeout
	if timeout <= 0 {
		timeout = DefaultStallTimeout
	}
	tick := time.NewTicker(max(timeout/stallLooks, time.Millisecond))
	defer tick.Stop()
	for seen, quiet := 0, 0; quiet <= stallLooks; {
		select {
		case <-r.over:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		if quiet++; r.active > 0 || r.moves != seen {
			quiet = 0
		}
		seen = r.moves
		r.mu.Unlock()
	}
	r.fail(fmt.Errorf("%w: nothing was under way for %s; %s", ErrStalled, timeout, r.standing()))
}

// standing says what those who have nothing to do wait for.
func (r *run) standing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	free := 0
	for _, l := range r.lanes {
		if l.owner == nobody && !l.spent {
			free++
		}
	}
	said := "gave rows"
	switch {
	case r.answers == 0:
		said = "has not answered"
	case r.answer != nil:
		said = fmt.Sprintf("said: %v", r.answer)
	}
	return fmt.Sprintf("%d workers wait for the next of %d claims, the queue last %s, and %d of the %d claims that are held are free",
		r.waiting, r.answers+1, said, free, len(r.lanes))
}
