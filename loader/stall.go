package loader

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// An activity counts the running operations of a run: those that end by themselves or have a
// time limit. Checkpoints are not counted: even a stalled run writes them.
type activity struct {
	mu     sync.Mutex
	active int // running operations
	begun  int // operations ever begun
}

// begin counts an operation as running until done is called.
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

// now returns the number of running operations, and of those ever begun.
func (a *activity) now() (active, begun int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active, a.begun
}

// stallLooks is the number of consecutive checks that must find no activity. A process that
// was suspended for hours makes one of these checks, not all.
const stallLooks = 8

// watch ends a run that has had no activity for longer than StallTimeout.
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
	r.fail(fmt.Errorf("%w: no chunk was running for %s; %s", ErrStalled, timeout, r.dispatch.standing()))
}
