package files

import (
	"bulkload/chunker"
	"bulkload/loader"
)

// Tolerating returns how the rejects of a chunk are counted by a load that allows n, of
// which earlier runs have found some.
func Tolerating(n, before int64) func(chunker.Span, int) error {
	t := &tolerance{Tolerance: Tolerance{Records: n}, rejects: before, chunks: map[int64]toldChunk{}}
	return t.add
}

// ToleratingShare returns how the rejects and records of chunks are counted by a load that
// allows a share of them.
func ToleratingShare(percent float64) (add func(chunker.Span, int) error, observe func(loader.Event)) {
	t := &tolerance{Tolerance: Tolerance{Percent: percent}, chunks: map[int64]toldChunk{}}
	return t.add, t.observe
}
