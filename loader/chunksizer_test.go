package loader_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
)

// scripted is a Committer whose answers a test writes; the sizes of the chunks that it
// was given are kept.
type scripted struct {
	mu     sync.Mutex // workers share a Committer
	sizes  []int
	answer func(n int) (loader.Outcome, error)
}

func (s *scripted) Commit(_ context.Context, c *rows.Chunk) (loader.Outcome, error) {
	out, err := s.answer(c.Len())
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sizes = append(s.sizes, c.Len())
	}
	return out, err
}

// paced runs n rows in chunks of size, by one worker.
func paced(t *testing.T, n, size int64, adapt bool, answer func(int) (loader.Outcome, error)) ([]int, []string, loader.Result) {
	t.Helper()
	s := &scripted{answer: answer}
	var notes []string
	job := &loader.Job{
		Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: n}}, Committer: s, Positions: n,
		Plan: chunker.Plan{RowsPerChunk: size}, AutoTune: adapt, Workers: 1,
		Observe: func(e loader.Event) {
			if e.Note != "" {
				notes = append(notes, e.Note)
			}
		},
	}
	res, err := job.Run(context.Background())
	if err != nil || res.Rows != n {
		t.Fatalf("got %d rows, %v; want %d", res.Rows, err, n)
	}
	return s.sizes, notes, res
}

func TestRefusedChunksAreHalvedForGood(t *testing.T) {
	for _, adapt := range []bool{false, true} {
		sizes, notes, res := paced(t, 100_000, 1000, adapt, func(n int) (loader.Outcome, error) {
			if n > 300 {
				return loader.Outcome{}, fmt.Errorf("%w: 53400", loader.ErrTooLarge)
			}
			return loader.Outcome{}, nil
		})
		for i, n := range sizes {
			if n > 300 {
				t.Fatalf("chunk %d has %d rows", i, n)
			}
		}
		if res.RowsPerChunk != 250 || res.Halved > 4 || len(notes) != 2 {
			t.Errorf("adapt %v: ended with %d rows per chunk after %d halvings and notes %q", adapt, res.RowsPerChunk, res.Halved, notes)
		}
	}
}

func TestRetriesMakeChunksSmallerAndCalmLargerAgain(t *testing.T) {
	chunks := 0
	sizes, notes, res := paced(t, 400_000, 1000, true, func(n int) (loader.Outcome, error) {
		if chunks++; chunks <= 12 {
			return loader.Outcome{Retries: 1}, nil
		}
		return loader.Outcome{}, nil
	})
	least := sizes[0]
	for _, n := range sizes[:len(sizes)-1] {
		least = min(least, n)
	}
	if least > 250 || res.RowsPerChunk != 1000 {
		t.Errorf("chunks went down to %d rows and ended with %d; want at most 250, and 1000 again", least, res.RowsPerChunk)
	}
	if len(notes) == 0 || !strings.Contains(notes[0], "were retried") {
		t.Errorf("got notes %q", notes)
	}
	// The user's own size stays.
	sizes, _, _ = paced(t, 20_000, 1000, false, func(int) (loader.Outcome, error) { return loader.Outcome{Retries: 1}, nil })
	for _, n := range sizes {
		if n != 1000 {
			t.Fatalf("a chunk of %d rows where the user asked for 1000", n)
		}
	}
}

func TestSlowChunksAreMadeSmaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := true
		sizes, _, _ := paced(t, 3000, 1000, true, func(n int) (loader.Outcome, error) {
			if slow {
				slow = false
				time.Sleep(2100 * time.Millisecond) // the subject of the test, not a wait
			}
			return loader.Outcome{}, nil
		})
		if sizes[0] != 1000 || sizes[1] != 500 {
			t.Errorf("got chunks of %d rows, want 500 behind the slow one", sizes)
		}
	})
}

// TestFlowControlIsNoReasonForSmallerChunks has a server that paces writes, and says so by
// their time.
func TestFlowControlIsNoReasonForSmallerChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answer: func(int) (loader.Outcome, error) {
			time.Sleep(2100 * time.Millisecond) // the subject of the test, not a wait
			return loader.Outcome{}, nil
		}}
		job := &loader.Job{
			Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 5000}}, Committer: s, Positions: 5000,
			Plan: chunker.Plan{RowsPerChunk: 1000}, AutoTune: true, FlowControlled: true, Workers: 1,
		}
		if _, err := job.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, n := range s.sizes {
			if n != 1000 {
				t.Fatalf("got chunks of %d rows, want 1000 each", s.sizes)
			}
		}
	})
}

// TestLateChunksAreHalvedAndGrowAgain has the server too slow for a while.
func TestLateChunksAreHalvedAndGrowAgain(t *testing.T) {
	chunks := 0
	sizes, notes, res := paced(t, 300_000, 1000, true, func(n int) (loader.Outcome, error) {
		if chunks < 5 && n > 300 {
			return loader.Outcome{}, fmt.Errorf("%w: %d rows", loader.ErrSlow, n)
		}
		chunks++
		return loader.Outcome{}, nil
	})
	if res.Halved != 2 || res.Retries != 2 || sizes[0] != 250 || sizes[4] != 250 {
		t.Errorf("got %d halved, %d retries and chunks of %d rows; want 2, 2 and 250", res.Halved, res.Retries, sizes[:5])
	}
	if res.RowsPerChunk != 1000 {
		t.Errorf("ended with chunks of %d rows, want 1000 again", res.RowsPerChunk)
	}
	if len(notes) != 2 || !strings.Contains(notes[0], "took too long") || !strings.Contains(notes[0], "500 rows") {
		t.Errorf("got notes %q", notes)
	}
	// The user's own size goes down too: each deadline would be waited for again.
	sizes, _, _ = paced(t, 20_000, 1000, false, func(n int) (loader.Outcome, error) {
		if n > 300 {
			return loader.Outcome{}, loader.ErrSlow
		}
		return loader.Outcome{}, nil
	})
	if len(sizes) != 80 {
		t.Errorf("got %d chunks, want 80 of 250 rows", len(sizes))
	}
}

// TestChunksGrowBeyondWhereTheyBegan begins below the plan, as after a load that had
// trouble.
func TestChunksGrowBeyondWhereTheyBegan(t *testing.T) {
	job := &loader.Job{
		Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: 100_000}}, Committer: &scripted{answer: func(int) (loader.Outcome, error) { return loader.Outcome{}, nil }},
		Positions: 100_000, Plan: chunker.Plan{RowsPerChunk: 100}, MaxRows: 400, AutoTune: true, Workers: 1,
	}
	res, err := job.Run(context.Background())
	if err != nil || res.RowsPerChunk != 400 {
		t.Errorf("ended with chunks of %d rows, %v; want 400", res.RowsPerChunk, err)
	}
}
