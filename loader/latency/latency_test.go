package latency_test

import (
	"testing"
	"time"

	"bulkload/loader/latency"
)

// TestQuantiles compares quantiles of known times with their exact values.
func TestQuantiles(t *testing.T) {
	var h latency.Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("of no time got %s, want 0", got)
	}
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	h.Add(-time.Second)
	h.Add(1000 * time.Hour)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 992 * time.Millisecond, 1: 24 * time.Hour} {
		if got := h.Quantile(q); got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %g: got %s, want about %s", q, got, want)
		}
	}
}
