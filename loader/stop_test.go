package loader_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
)

// oneClaim is a queue that gives one range, and then does not answer.
type oneClaim struct {
	rows   int64
	silent chan struct{} // closed when it is asked again
}

func (q *oneClaim) Claim(ctx context.Context, _ int64) (loader.Lease, error) {
	if n := q.rows; n > 0 {
		q.rows = 0
		return loader.Lease{Range: chunker.Range{End: n}}, nil
	}
	close(q.silent)
	<-ctx.Done()
	return loader.Lease{}, ctx.Err()
}

func (q *oneClaim) Checkpoint(context.Context, []loader.Lease) error { return nil }
func (q *oneClaim) Release(context.Context, loader.Lease) error      { return nil }

// TestStopIsHeard closes Stop while a run waits for what may take long: the rate of its
// rows, and a queue that does not answer. It ends within seconds of a time that is its own.
func TestStopIsHeard(t *testing.T) {
	for name, waits := range map[string]func(*loader.Job, *oneClaim) <-chan struct{}{
		"rate": func(j *loader.Job, _ *oneClaim) <-chan struct{} {
			first := make(chan struct{})
			j.Plan.RowsPerChunk, j.RowsPerSecond, j.Workers = 100, 1, 1
			var once sync.Once
			j.Observe = func(loader.Event) { once.Do(func() { close(first) }) }
			return first
		},
		"claim": func(j *loader.Job, q *oneClaim) <-chan struct{} {
			j.Queue = q
			return q.silent
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := make(chan struct{})
				job := &loader.Job{
					Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 10_000}}, Positions: 10_000, Stop: stop,
					Committer: &scripted{answer: func(int) (loader.Outcome, error) { return loader.Outcome{}, nil }},
				}
				waiting := waits(job, &oneClaim{rows: 1000, silent: make(chan struct{})})
				var asked time.Time
				go func() {
					<-waiting
					time.Sleep(time.Second) // of the bubble: the run waits now
					asked = time.Now()
					close(stop)
				}()
				_, err := job.Run(t.Context())
				if took := time.Since(asked); !errors.Is(err, loader.ErrStopped) || asked.IsZero() || took > 6*time.Second {
					t.Errorf("%v, %s after it was asked to stop", err, took)
				}
			})
		})
	}
}

// TestFailureIsNotHeldBackByAClaim has a chunk fail while the queue does not answer.
func TestFailureIsNotHeldBackByAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &oneClaim{rows: 1000, silent: make(chan struct{})}
		gone := errors.New("the server is gone")
		job := &loader.Job{
			Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 10_000}}, Positions: 10_000, Queue: q,
			Committer: &scripted{answer: func(int) (loader.Outcome, error) { <-q.silent; return loader.Outcome{}, gone }},
		}
		start := time.Now()
		if _, err := job.Run(t.Context()); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("back after %s", took)
		}
	})
}

// rated keeps the times at which chunks arrive, and refuses those above a size.
type rated struct{ at []time.Time }

func (r *rated) Commit(_ context.Context, c *rows.Chunk) (loader.Outcome, error) {
	if c.Len() > 50 {
		return loader.Outcome{}, loader.ErrTooLarge
	}
	r.at = append(r.at, time.Now())
	return loader.Outcome{}, nil
}

// TestHalvesAreWithinTheRate has a chunk cut in two: its rows count once.
func TestHalvesAreWithinTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, r := time.Now(), &rated{}
		job := &loader.Job{
			Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 100}}, Positions: 100, Committer: r,
			Plan: chunker.Plan{RowsPerChunk: 100}, RowsPerSecond: 10, Workers: 1,
		}
		if _, err := job.Run(t.Context()); err != nil || len(r.at) != 2 {
			t.Fatalf("%d chunks, %v", len(r.at), err)
		}
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("100 rows at 10 a second took %s", took)
		}
	})
}
