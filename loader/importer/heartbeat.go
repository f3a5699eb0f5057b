package importer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"bulkload/loader"
)

// heartbeat is the interval of the heartbeats of a run that waits for a job.
const heartbeat = 5 * time.Second

// sendHeartbeats sends heartbeats until ctx ends. It ends the run when another run has taken over
// its leases.
func (r *Runner) sendHeartbeats(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock() // a checkpoint must not overtake the release of a lease
		err := r.Queue.Checkpoint(ctx, r.claims)
		r.mu.Unlock()
		if errors.Is(err, loader.ErrLost) {
			lost(err)
			return
		}
	}
}

// stopSilence is how long a stopped run waits for any answer of the server.
const stopSilence = 5 * time.Second

// errSilent: a run was stopped, and its server is silent.
var errSilent = fmt.Errorf("%w: the server does not answer; a job of this load may still run there, and the next run finds it", loader.ErrStopped)

// endIfSilent ends a stopped run, which waits for the end of its job, once the server has been
// silent for stopSilence.
func (r *Runner) endIfSilent(ctx context.Context, lost context.CancelCauseFunc, heard *atomic.Int64) {
	select {
	case <-ctx.Done():
		return
	case <-r.Stop:
	}
	heard.Store(time.Now().UnixNano())
	tick := time.NewTicker(stopSilence / 10)
	defer tick.Stop()
	for time.Since(time.Unix(0, heard.Load())) < stopSilence {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	lost(errSilent)
}
