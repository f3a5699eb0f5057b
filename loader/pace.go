package loader

import (
	"fmt"
	"time"
)

// A pace decides how many rows the next chunk holds, from what the client alone can
// see: refusals, retries and the time of a chunk. It begins with the plan's size, which
// is good where nothing unusual happens; it goes down at once and up slowly. The lock of
// the run guards it.
//
// Note: tried to climb by the measured rate as well. Chunks of one size differ by more
// than 30 % on a quiet server, so that the climb was a walk at random; the benchmark,
// which repeats and interleaves, is the place to look for a better size.
type pace struct {
	size  int64 // rows of the next chunk
	most  int64 // never more: the plan's, or less after a refusal
	fixed bool  // the user named the size; only a refusal or a deadline changes it
	flow  bool  // a slow chunk says nothing of its size

	calm    int // chunks since the last trouble or change
	trouble int // retried chunks among the last troubleWindow
	recent  [troubleWindow]bool
	at      int
}

const (
	// slowChunk is the time of a chunk above which it is made smaller: it holds
	// its locks, and repeats as much after a failure. The deadline of an attempt is
	// far above it.
	slowChunk = 2 * time.Second
	// troubleWindow chunks are remembered; when troubleMost of them were retried,
	// chunks are made smaller, for a smaller transaction collides less.
	troubleWindow = 16
	troubleMost   = 4
	// calmChunks without trouble let the size grow by a quarter.
	calmChunks = 32
	// leastRows is the size below which only a refusal goes.
	leastRows = 50
)

// refused is told that the server found a chunk of n rows too large. It returns what
// the user should know.
func (p *pace) refused(n int64) string {
	half := max((n+1)/2, 1)
	p.most = min(p.most, half)
	if half >= p.size {
		return ""
	}
	p.size, p.calm = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// late is told that a chunk of n rows did not go in within its time. It returns what the
// user should know. In contrast to a refusal the size may come again: the server may
// have been busy.
func (p *pace) late(n int64) string {
	half := max((n+1)/2, 1)
	if half >= p.size {
		return ""
	}
	p.size, p.calm = half, 0
	return fmt.Sprintf("chunks now hold %d rows", half)
}

// done is told of a chunk that is in: its rows, its time and how often it was retried.
func (p *pace) done(n int64, elapsed time.Duration, retries int) string {
	if p.fixed {
		return ""
	}
	if p.recent[p.at] {
		p.trouble--
	}
	p.recent[p.at] = retries > 0
	if retries > 0 {
		p.trouble++
		p.calm = 0
	}
	p.at = (p.at + 1) % troubleWindow
	switch {
	case elapsed > slowChunk && retries == 0 && n >= p.size && !p.flow:
		return p.shrink(fmt.Sprintf("a chunk of %d rows took %s", n, elapsed.Round(100*time.Millisecond)))
	case p.trouble >= troubleMost:
		return p.shrink(fmt.Sprintf("%d of the last %d chunks were retried", p.trouble, troubleWindow))
	case p.calm >= calmChunks && p.size < p.most:
		p.size, p.calm = min(p.size+max(p.size/4, 1), p.most), 0
	default:
		p.calm++
	}
	return ""
}

func (p *pace) shrink(why string) string {
	p.calm, p.trouble, p.recent = 0, 0, [troubleWindow]bool{}
	half := max(p.size/2, min(leastRows, p.size))
	if half == p.size {
		return ""
	}
	p.size = half
	return fmt.Sprintf("%s; chunks now hold %d rows", why, half)
}
