package loader

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkload/chunker"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// numbers is a Source of rows that hold nothing.
type numbers struct{}

func (numbers) Columns() []rows.Column { return nil }

func (numbers) Fill(c *rows.Chunk, span chunker.Span) error {
	c.Reset(span, int(span.Count))
	return nil
}

// A trial is one random run of the pool of workers: the queue and the server that it
// meets, which answer after random times, and the numbers of workers it is told to have.
type trial struct {
	rng       *rand.Rand
	positions int64
	claimMost int64         // chunks of a claim at most
	wait      time.Duration // the longest wait for the queue, and for a chunk
	tooLarge  int           // rows of a chunk that the server refuses
	failing   int           // one in so many chunks, and claims, fails; zero is none
	late      int           // one in so many chunks is late
	other     chunker.Range // held by another run until a time
	gone      bool          // the other run gives its range back, and has not loaded it
	until     time.Time

	mu   sync.Mutex
	held map[int64]chunker.Range // by this run, by First
	in   chunker.Ranges          // as the queue knows
	got  []int                   // by position: how often it was committed
}

func newTrial(seed uint64) *trial {
	x := &trial{rng: rand.New(rand.NewPCG(seed, 15))}
	x.positions = 1 + x.rng.Int64N(400)
	x.claimMost = 1 + x.rng.Int64N(6)
	x.wait = time.Duration(1+x.rng.IntN(300)) * time.Millisecond
	if x.tooLarge = 1000; x.rng.IntN(4) == 0 {
		x.tooLarge = 2 + x.rng.IntN(10)
	}
	if x.rng.IntN(4) == 0 {
		x.failing = 5 + x.rng.IntN(100)
	}
	if x.late = 1000; x.rng.IntN(4) == 0 {
		x.late = 5
	}
	if x.rng.IntN(3) == 0 {
		x.other.First = x.rng.Int64N(x.positions)
		x.other.End = min(x.other.First+1+x.rng.Int64N(100), x.positions)
		x.gone = x.rng.IntN(2) == 0
		x.until = time.Now().Add(time.Duration(x.rng.IntN(10_000)) * time.Millisecond)
	}
	x.held, x.got = map[int64]chunker.Range{}, make([]int, x.positions)
	return x
}

// n returns a random number below n.
func (x *trial) n(n int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rng.IntN(n)
}

// pass waits for a random time: most of them are short, some are none.
func (x *trial) pass() {
	if most := int(x.wait); x.n(4) > 0 {
		time.Sleep(time.Duration(x.n(most) * x.n(most) / most))
	}
}

var errTrial = errors.New("refused")

func (x *trial) Claim(_ context.Context, chunk int64) (Lease, error) {
	x.pass()
	defer x.pass() // the reply
	if x.failing > 0 && x.n(x.failing) == 0 {
		return Lease{}, errTrial
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var taken chunker.Ranges
	taken.AddAll(x.in)
	for _, r := range x.held {
		taken.Add(r)
	}
	busy := x.other.Len() > 0 && time.Now().Before(x.until)
	if x.other.Len() > 0 && (busy || !x.gone) {
		taken.Add(x.other)
	}
	free := taken.Gaps(chunker.Range{End: x.positions})
	switch {
	case len(free) == 0 && busy:
		return Lease{}, ErrBusy
	case len(free) == 0:
		return Lease{}, io.EOF
	}
	got := free[0]
	got.End = min(got.End, got.First+chunk*(1+x.rng.Int64N(x.claimMost)))
	x.held[got.First] = got
	return Lease{Range: got}, nil
}

func (x *trial) Checkpoint(context.Context, []Lease) error {
	x.pass()
	return nil
}

func (x *trial) Release(_ context.Context, c Lease) error {
	x.pass()
	x.mu.Lock()
	x.in.AddAll(c.Done)
	delete(x.held, c.First)
	x.mu.Unlock()
	x.pass()
	return nil
}

func (x *trial) Commit(ctx context.Context, c *rows.Chunk) (Outcome, error) {
	x.pass()
	if x.failing > 0 && x.n(x.failing) == 0 {
		return Outcome{}, errTrial
	}
	if c.Len() > 1 && x.n(x.late) == 0 {
		return Outcome{}, ErrSlow
	}
	if c.Len() > x.tooLarge {
		return Outcome{}, ErrTooLarge
	}
	x.mu.Lock()
	for i := range c.Len() {
		x.got[c.Row(i)]++
	}
	x.mu.Unlock()
	x.pass()
	return Outcome{}, nil
}

// TestPoolOfWorkers runs loads of random sizes, with queues and servers that answer after
// random times, short claims, workers that come and are retired, other runs, chunks that
// are cut, failures and stops. Each run ends, and each position is committed once.
func TestPoolOfWorkers(t *testing.T) {
	seeds := uint64(2000)
	if loadertest.Chaos {
		seeds = 20_000
	}
	for seed := range seeds {
		if poolRun(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// poolRun is one run of TestPoolOfWorkers.
func poolRun(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(seed)
		stop := make(chan struct{})
		most := 1 + x.n(8)
		job := &Job{
			Source: numbers{}, Committer: x, Queue: x, Positions: x.positions, Stop: stop,
			Plan: chunker.Plan{RowsPerChunk: 1 + int64(x.n(20))}, AutoTune: x.n(2) == 0,
			Workers: 1 + x.n(most), MaxWorkers: most, InOrder: x.n(2) == 0,
		}
		if x.n(8) == 0 {
			job.RowsPerSecond = 20 + float64(x.n(200))
		}
		var r *run
		// Each chunk may change the number of workers, as trials of the tuner do.
		job.Observe = func(Event) {
			if x.n(2) == 0 {
				r.tuner.workers.size = 1 + x.n(len(r.working))
			}
		}
		r = newRun(job)
		r.tuner.workers.max = 0 // no trials of its own
		ending := x.n(8)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		asked := time.AfterFunc(time.Duration(x.n(5000))*time.Millisecond, func() {
			switch ending {
			case 0:
				close(stop)
			case 1:
				cancel()
			}
		})
		res, err := r.run(ctx)
		asked.Stop()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			t.Errorf("the run has not ended: %d of %d positions, %d workers", res.Positions, x.positions, len(r.working))
		case err == nil, x.failing > 0 && errors.Is(err, errTrial),
			ending == 0 && errors.Is(err, ErrStopped), ending == 1 && errors.Is(err, context.Canceled):
		default:
			t.Errorf("got %v", err)
		}
		for i, n := range x.got {
			others := x.other.First <= int64(i) && int64(i) < x.other.End && !x.gone
			if n > 1 || n == 1 && others || n == 0 && !others && err == nil {
				t.Errorf("position %d of %d is committed %d times, with %v at the end", i, x.positions, n, err)
				return
			}
		}
	})
}
