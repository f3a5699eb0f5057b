// Package latency keeps times in memory that does not grow with their number, and returns
// quantiles of them.
package latency

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Times up to longest are told apart, to digits significant decimal digits: a quantile is
// off by less than one in a hundred. Longer ones count as longest.
const (
	longest = 24 * time.Hour
	digits  = 2
)

// A Histogram counts times. The zero value is empty and ready for use. It is for one
// goroutine at a time.
type Histogram struct{ counts *hdrhistogram.Histogram }

// Add counts a time.
func (h *Histogram) Add(d time.Duration) {
	if h.counts == nil {
		h.counts = hdrhistogram.New(1, int64(longest), digits)
	}
	// No time from 0 to longest is an error.
	_ = h.counts.RecordValue(int64(min(max(d, 0), longest)))
}

// Quantile returns the time that the q-th part of all times, from 0 to 1, does not exceed;
// zero where there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.counts == nil {
		return 0
	}
	return time.Duration(h.counts.ValueAtQuantile(100 * q))
}
