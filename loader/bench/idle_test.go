package bench_test

import (
	"fmt"
	"os"
	"testing"

	"bulkload/loader/bench"
	"bulkload/loader/loadertest"
)

// idle says that the machine does nothing else, so that the clock can be believed:
//
//	LOADER_TEST_IDLE=1 go test -run 'Idle|Cliff' ./loader/bench
var idle = os.Getenv("LOADER_TEST_IDLE") != ""

// needIdle skips a test of rates where the machine may be busy.
func needIdle(t *testing.T) {
	t.Helper()
	if !idle {
		loadertest.Skip(t, "by the clock: LOADER_TEST_IDLE=1 runs it")
	}
}

// TestIdleAgreement: two measurements of the same agree within their intervals. The bounds
// hold the median with 96 % each, so that a rare miss is no fault: one of three may.
func TestIdleAgreement(t *testing.T) {
	needIdle(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		var missed []string
		for range 3 {
			var list [2]bench.Interval
			for i := range list {
				rep, err := points(t, url, 20_000, grid(1000), 6).Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				list[i] = rep.Cells[0].Rate
			}
			t.Logf("%.0f to %.0f and %.0f to %.0f rows/s", list[0].Lo, list[0].Hi, list[1].Lo, list[1].Hi)
			if list[0].Hi < list[1].Lo || list[1].Hi < list[0].Lo {
				missed = append(missed, fmt.Sprintf("%+v and %+v", list[0], list[1]))
			}
		}
		if len(missed) > 1 {
			t.Errorf("%d of 3 pairs do not overlap: %v", len(missed), missed)
		}
	})
}

// TestIdleRecommendation measures a grid, then what it recommends beside its best cell:
// the one is within 5 % of the other.
func TestIdleRecommendation(t *testing.T) {
	needIdle(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		first, err := points(t, url, 100_000, grid(100, 1000, 2000, 5000), 6).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		use, best := first.Advice.Use, first.Advice.Best
		again, err := points(t, url, 100_000, grid(use.Chunk, best.Chunk), 10).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rate := map[int64]bench.Interval{}
		for _, c := range again.Cells {
			rate[c.Chunk] = c.Rate
		}
		t.Logf("recommended %d, best %d: %.3f × in a second measurement", use.Chunk, best.Chunk, rate[use.Chunk].Center/rate[best.Chunk].Center)
		if rate[use.Chunk].Hi < .95*rate[best.Chunk].Lo {
			t.Errorf("recommended %v has %+v; the best, %v, %+v", use, rate[use.Chunk], best, rate[best.Chunk])
		}
	})
}
