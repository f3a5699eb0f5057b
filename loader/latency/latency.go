// Package latency records times in a constant amount of memory and computes their quantiles.
// It measures nothing itself.
package latency

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Times up to longest are resolved to digits significant decimal digits, so a quantile is off
// by less than one in a hundred. Longer times count as longest.
const (
	longest = 24 * time.Hour
	digits  = 2
)

// A Histogram counts times. The zero value is empty and ready for use. It is not safe for
// concurrent use.
type Histogram struct{ counts *hdrhistogram.Histogram }

// Add records a time. Negative times count as zero.
func (h *Histogram) Add(d time.Duration) {
	if h.counts == nil {
		h.counts = hdrhistogram.New(1, int64(longest), digits)
	}
	// RecordValue fails only outside 0 to longest.
	_ = h.counts.RecordValue(int64(min(max(d, 0), longest)))
}

// Quantile returns the time that the fraction q of all times, from 0 to 1, does not exceed. It
// returns zero if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.counts == nil {
		return 0
	}
	return time.Duration(h.counts.ValueAtQuantile(100 * q))
}
