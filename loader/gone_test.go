package loader_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
)

// forgetful is a queue whose server loses a part of the first claim that is given back,
// when nothing else is left to claim.
type forgetful struct {
	mu   sync.Mutex
	left []chunker.Range
	lost bool
	none chan struct{} // closed when it has had nothing to give
	told sync.Once
}

func (q *forgetful) Claim(context.Context, int64) (loader.Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.left) == 0 {
		q.told.Do(func() { close(q.none) })
		return loader.Lease{}, io.EOF
	}
	c := loader.Lease{Range: q.left[0]}
	q.left = q.left[1:]
	return c, nil
}

func (q *forgetful) Checkpoint(context.Context, []loader.Lease) error { return nil }

func (q *forgetful) Release(_ context.Context, c loader.Lease) error {
	<-q.none
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost || !c.Done.Covers(c.Range) {
		return nil
	}
	q.lost = true
	gone := chunker.Range{First: c.First + 100, End: c.First + 300}
	q.left = append(q.left, gone)
	return &loader.GoneError{Ranges: []chunker.Range{gone}}
}

// TestRunGoesOnWithWhatIsGone has the last claim come back in part, when the workers have
// nothing else to do: it is loaded again, and each row counts once.
func TestRunGoesOnWithWhatIsGone(t *testing.T) {
	q := &forgetful{left: []chunker.Range{{End: 1000}}, none: make(chan struct{})}
	var mu sync.Mutex
	sent, gone := int64(0), int64(0)
	job := &loader.Job{
		Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 1000}}, Positions: 1000, Queue: q, Workers: 1,
		Plan:      chunker.Plan{RowsPerChunk: 50},
		Committer: &scripted{answer: func(int) (loader.Outcome, error) { return loader.Outcome{}, nil }},
		Observe: func(e loader.Event) {
			mu.Lock()
			defer mu.Unlock()
			sent += e.Span.Rows
			for _, x := range e.Gone {
				gone += x.Len()
			}
		},
	}
	res, err := job.Run(t.Context())
	if err != nil || res.Rows != 1000 || res.Positions != 1000 || res.Chunks != 20 || res.Gone != 200 {
		t.Errorf("got %d rows of %d positions in %d chunks, %d gone, %v; want 1000, 1000, 20, 200", res.Rows, res.Positions, res.Chunks, res.Gone, err)
	}
	if sent != 1200 || gone != 200 {
		t.Errorf("the events tell of %d rows, and of %d gone; want 1200, 200", sent, gone)
	}
}

// keepsNothing is a queue whose server loses all of each claim that is given back.
type keepsNothing struct {
	mu   sync.Mutex
	left []chunker.Range
}

func (q *keepsNothing) Claim(context.Context, int64) (loader.Lease, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.left) == 0 {
		return loader.Lease{}, io.EOF
	}
	c := loader.Lease{Range: q.left[0]}
	q.left = q.left[1:]
	return c, nil
}

func (q *keepsNothing) Checkpoint(context.Context, []loader.Lease) error { return nil }

func (q *keepsNothing) Release(_ context.Context, c loader.Lease) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = append(q.left, c.Range)
	return &loader.GoneError{Ranges: []chunker.Range{c.Range}}
}

// TestServerThatKeepsNothing has a run end that would send the same rows for ever.
func TestServerThatKeepsNothing(t *testing.T) {
	job := &loader.Job{
		Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 1000}}, Positions: 1000, Workers: 2,
		Queue:     &keepsNothing{left: []chunker.Range{{End: 500}, {First: 500, End: 1000}}},
		Plan:      chunker.Plan{RowsPerChunk: 50},
		Committer: &scripted{answer: func(int) (loader.Outcome, error) { return loader.Outcome{}, nil }},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // without the limit it has no end
	defer cancel()
	if res, err := job.Run(ctx); !errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), "loses rows that it has confirmed") {
		t.Errorf("got %d rows, %v; want it unconfirmed", res.Rows, err)
	}
}
