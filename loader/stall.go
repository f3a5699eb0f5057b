package loader

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// An activity counts what is under way in a run: what ends by itself, or has a time limit of
// its own. Checkpoints are not counted: a run that does nothing else writes them too.
type activity struct {
	mu     sync.Mutex
	active int // under way now
	begun  int // ever
}

// begin counts something that is under way until done is called.
func (a *activity) begin() (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active++
	a.begun++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.active--
	}
}

// now returns how much is under way, and how much has ever been.
func (a *activity) now() (active, begun int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active, a.begun
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
		case <-r.dispatch.over:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		active, begun := r.activity.now()
		if quiet++; active > 0 || begun != seen {
			quiet = 0
		}
		seen = begun
	}
	r.fail(fmt.Errorf("%w: nothing was under way for %s; %s", ErrStalled, timeout, r.dispatch.standing()))
}
