package extsort_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"bulkload/loader/extsort"
)

// TestRecordsComeSorted sorts as many records as fit, one more, and many times as many.
func TestRecordsComeSorted(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 9, 10, 11, 20, 1000} {
		s := extsort.Sorter{Memory: 10}
		var want []extsort.Record
		for range n {
			var r extsort.Record
			r[rng.IntN(24)] = byte(rng.IntN(3))
			want = append(want, r)
			if err := s.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortFunc(want, func(a, b extsort.Record) int { return bytes.Compare(a[:], b[:]) })
		sorted, err := s.Sorted()
		if err != nil {
			t.Fatal(err)
		}
		var got []extsort.Record
		for {
			r, err := sorted.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d records come in another order, or not all", n)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("%d records: %v is in the directory while they are sorted, %v", n, left, err)
		}
		s.Close()
	}
}
