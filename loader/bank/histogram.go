package bank

import (
	"math/bits"
	"time"
)

// A histogram counts times in buckets whose width is an eighth of their value or less,
// so that any number of them takes the same memory. The zero value is empty.
type histogram struct {
	count   int64
	buckets [64 * 8]int64
}

func (h *histogram) add(d time.Duration) {
	h.count++
	h.buckets[bucket(uint64(max(d, 0)))]++
}

// bucket returns the place of v: three bits behind its highest one.
func bucket(v uint64) int {
	if v < 8 {
		return int(v)
	}
	shift := bits.Len64(v) - 4
	return shift*8 + int(v>>shift)
}

// quantile returns the upper end of the bucket that has the q-th part of all times;
// zero where there are none.
func (h *histogram) quantile(q float64) time.Duration {
	left := int64(q * float64(h.count))
	for i, n := range h.buckets {
		if left -= n; left < 0 {
			if i < 8 {
				return time.Duration(i)
			}
			shift := i/8 - 1
			return time.Duration(uint64(i%8+9)<<shift - 1)
		}
	}
	return 0
}
