package files_test

import (
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
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

// TestShareOfTheRecordsThatWereRead: a share is one of the records read so far, those of the
// chunk that asks among them, and no fewer than a thousand.
func TestShareOfTheRecordsThatWereRead(t *testing.T) {
	add, observe := files.ToleratingShare(1)
	span := func(first, rows int64) chunker.Span { return chunker.Span{First: first, Count: rows, Rows: rows} }
	for i, step := range []struct {
		first, rows int64
		n           int // -1: it has none, and is in
		ok          bool
	}{
		{0, 100, 10, true},        // of a thousand
		{0, 100, 11, false},       // again, with one more
		{0, 100, 10, true},        //
		{100, 10_000, 100, false}, // 110 of 10 100
		{100, 10_000, 91, true},   // 101 of 10 100
		{20_000, 5000, 40, true},  // 141 of 15 100
		{30_000, 100, 20, false},  // 161 of 15 200
		{40_000, 2000, -1, true},  //
		{30_000, 100, 20, true},   // 161 of 17 200
	} {
		if step.n < 0 {
			observe(loader.Event{Span: span(step.first, step.rows)})
			continue
		}
		err := add(span(step.first, step.rows), step.n)
		if (err == nil) != step.ok {
			t.Errorf("step %d: got %v, want allowed: %v", i, err, step.ok)
		}
		if step.ok && i%2 == 0 { // what was counted already is not counted twice
			observe(loader.Event{Span: span(step.first, step.rows)})
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
