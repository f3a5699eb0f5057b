package loader

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkload/chunker"
)

// asked is a queue that has no more to give, and tells when it is asked.
type asked chan struct{}

func (q asked) Claim(context.Context, int64) (Lease, error) {
	q <- struct{}{}
	return Lease{}, io.EOF
}

func (asked) Checkpoint(context.Context, []Lease) error { return nil }
func (asked) Release(context.Context, Lease) error      { return nil }

// TestReserveThatIsUsedUp takes the last span of the lease in reserve, as a worker does
// that then looks for more: claimAhead must not wait for somebody to take it up.
func TestReserveThatIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := make(asked)
		r := newRun(&Job{Positions: 100, Queue: q})
		r.dispatch.leases = []*heldLease{{owner: nobody, spans: r.cut()}} // given back by a worker that was retired
		go r.dispatch.claimAhead(t.Context())
		synctest.Wait() // it waits, for there is a lease in reserve
		if _, _, err := r.dispatch.take(func(*heldLease) bool { return true }); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		<-q
		synctest.Wait() // the answer is there
		// The same where the lease is given back as done.
		whole := chunker.Range{End: 10}
		l := &heldLease{owner: nobody, open: 1, Lease: Lease{Range: whole}, spans: r.cut(whole)}
		l.Done.Add(whole)
		r.dispatch.mu.Lock()
		r.dispatch.leases, r.dispatch.answer = []*heldLease{l}, nil
		r.dispatch.mu.Unlock()
		synctest.Wait()
		r.dispatch.close(context.Background(), l)
		<-q
		close(r.dispatch.over)
	})
}

// TestLeaseOfARetiredWorkerIsSeen has a worker wait while the queue does not answer, and
// another one retired, which leaves a lease: that is what the first must take.
func TestLeaseOfARetiredWorkerIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(&Job{Positions: 100, Workers: 2, Queue: make(asked)})
		whole := chunker.Range{End: 10}
		r.dispatch.leases = []*heldLease{{owner: 1, Lease: Lease{Range: whole}, spans: r.cut(whole)}}
		got := make(chan error, 1)
		go func() {
			_, _, err := r.dispatch.next(t.Context(), 0)
			got <- err
		}()
		synctest.Wait() // it waits: the lease is the other's
		r.mu.Lock()
		r.tuner.workers.size = 1
		r.mu.Unlock()
		if !r.retired(1) {
			t.Fatal("worker 1 of 1 is not retired")
		}
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Hour):
			t.Error("a worker waits for an hour beside a lease that is free")
			close(r.halt)
		}
	})
}

// uncut is a Source that is not cut until a channel is closed.
type uncut struct {
	numbers
	until <-chan struct{}
}

func (s uncut) Cut(chunker.Range) Spans {
	<-s.until
	return &rowSpans{}
}

// TestRunThatStalls holds claimAhead up: all workers wait for it. The run ends, and says
// what they wait for.
func TestRunThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(0)
		job := &Job{Committer: x, Queue: x, Positions: 100, Workers: 3, StallTimeout: 20 * time.Second}
		r := newRun(job)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		until := make(chan struct{})
		job.Source = uncut{until: until}
		go func() {
			defer close(until)
			select {
			case <-r.halt:
			case <-ctx.Done():
			}
		}()
		_, err := r.run(ctx)
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "3 workers wait for rows (lease 1)") {
			t.Errorf("got %v, want ErrStalled, and what 3 workers wait for", err)
		}
		if took := time.Since(start); took < 20*time.Second || took > time.Minute {
			t.Errorf("after %s, want 20 s", took)
		}
	})
}
