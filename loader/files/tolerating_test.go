package files

import "bulkload/chunker"

// Tolerating returns how the rejects of a chunk are counted by a load that allows n, of
// which earlier runs have found some.
func Tolerating(n, before int64) func(chunker.Span, int) error {
	t := &tolerance{Tolerance: Tolerance{Records: n}, max: n, sum: before, chunks: map[int64]int64{}}
	return t.add
}
