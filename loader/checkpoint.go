package loader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sent notes that a chunk is under way.
func (r *run) sent() time.Time {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began = append(r.began, now)
	return now
}

// ended notes that a chunk that was sent at start is not under way any more.
func (r *run) ended(start time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.began, start); i >= 0 {
		r.began = slices.Delete(r.began, i, i+1)
	}
}

// mostQuiet bounds the time without a checkpoint. It is below the time after which
// others take a run without a sign of life for dead.
const mostQuiet = 10 * time.Second

// disturbs reports whether a checkpoint now, after one at last, would be the second that
// meets a chunk under way. CockroachDB begins a transaction again when the row of the
// claim that it has read changes: seen on 21.1, a chunk that took longer than the time
// between two checkpoints was begun again for ever.
func (r *run) disturbs(last time.Time) bool {
	if time.Since(last) >= mostQuiet {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.began, func(t time.Time) bool { return t.Before(last) })
}

// keep writes checkpoints until the workers have returned. A checkpoint that fails for another
// reason than a lost claim or lost rows is made up for by the next one.
func (r *run) keep(ctx context.Context) {
	tick := time.NewTicker(CheckpointEvery)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		for waiting := true; waiting; waiting = r.disturbs(last) {
			select {
			case <-r.over:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		if err := r.checkpoint(ctx); errors.Is(err, ErrLost) || errors.Is(err, ErrUnconfirmed) {
			r.fail(err)
			return
		}
	}
}

func (r *run) checkpoint(ctx context.Context) error {
	r.books <- struct{}{}
	defer func() { <-r.books }()
	return r.queue.Checkpoint(ctx, r.claims())
}

// claims returns copies of the claims that are held.
func (r *run) claims() []Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Lease, len(r.lanes))
	for i, l := range r.lanes {
		list[i].Range = l.claim.Range
		list[i].Done.AddAll(l.claim.Done)
	}
	return list
}

// releaseAll gives back what the run still holds, so that another can go on at once.
func (r *run) releaseAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for i, c := range r.claims() {
		// No worker and no claimer changes the lanes any more.
		if err := r.giveBack(ctx, r.lanes[i], c); err != nil && !errors.Is(err, ErrLost) {
			return fmt.Errorf("give back what is not loaded: %w", err)
		}
	}
	return nil
}
