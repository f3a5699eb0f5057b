package files_test

import (
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader/files"
)

// TestRejectsAreCountedOnce has chunks tell their rejects again: an attempt counts in the
// place of the one before it, in whatever order they come.
func TestRejectsAreCountedOnce(t *testing.T) {
	add := files.Tolerating(10, 3)
	for i, c := range []struct {
		first int64
		n     int
		ok    bool
	}{{0, 4, true}, {100, 3, true}, {100, 3, true}, {0, 4, true}, {200, 1, false}, {0, 3, true}, {200, 1, true}, {300, 1, false}} {
		if err := add(chunker.Span{First: c.first}, c.n); (err == nil) != c.ok {
			t.Errorf("step %d: %d rejects at %d: got %v, want allowed: %v", i, c.n, c.first, err, c.ok)
		}
	}
}

// TestCountingRejectsTakesTheSameForEachChunk compares a load of few chunks with one of
// many: what a chunk costs does not grow with their number.
func TestCountingRejectsTakesTheSameForEachChunk(t *testing.T) {
	each := func(chunks int) time.Duration {
		best := time.Hour
		for range 5 {
			add := files.Tolerating(1<<40, 0)
			start := time.Now()
			for i := range chunks {
				if err := add(chunker.Span{First: int64(i)}, 1); err != nil {
					t.Fatal(err)
				}
			}
			best = min(best, time.Since(start)/time.Duration(chunks))
		}
		return best
	}
	few, many := each(500), each(10_000)
	if many > 6*few {
		t.Errorf("a chunk of 10000 takes %v, and one of 500 %v", many, few)
	}
}
