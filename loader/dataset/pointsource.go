package dataset

import (
	"math/bits"

	"bulkload/chunker"
	"bulkload/loader/rows"
)

// The range from which a load's key base is drawn: above what users number by
// hand, below 2^53 so that every key is exact in a float64 (JavaScript, JSON), and
// far from unique_rowid() (from 2^59 on) and from an identity column's start.
const (
	MinKeyBase = int64(1) << 40
	MaxKeyBase = int64(1) << 53 // exclusive, and no key reaches it
)

// KeyBlockRows is the number of consecutive rows whose keys are consecutive too: more than any
// sensible chunk has. The keys of a chunk are then mostly consecutive.
const KeyBlockRows = 1 << 17

// A KeyLayout gives each row of a load its key: Base plus the row's position.
// Consecutive rows are neighbours within blocks of Block rows. The blocks are scattered over the
// range: workers that load different blocks write to different ranges. It is a value and safe
// for concurrent use.
type KeyLayout struct {
	Base  int64 // key of position 0
	Rows  int64 // rows of the load
	Block int64 // rows per block; zero keeps all rows in order, in one block
}

// Range returns the range of the load's keys. With blocks some keys of it are not used.
func (l KeyLayout) Range() chunker.Range {
	return chunker.Range{First: l.Base, End: l.Base + l.span()}
}

func (l KeyLayout) span() int64 {
	if l.Block <= 0 || l.Rows <= l.Block {
		return l.Rows
	}
	return l.blocks() * l.Block
}

func (l KeyLayout) blocks() int64 { return (l.Rows + l.Block - 1) / l.Block }

// Key returns the key of row, counted from 0.
func (l KeyLayout) Key(row int64) int64 {
	if l.Block <= 0 || l.Rows <= l.Block {
		return l.Base + row
	}
	n := l.blocks()
	// The golden section spreads any number of consecutive blocks evenly; a
	// step without common divisor with n makes it a permutation.
	b := mulmod(row/l.Block, step(n), n)
	return l.Base + b*l.Block + row%l.Block
}

// step returns the multiplier of the block permutation: the number without common
// divisor with n that is nearest above 0.618 n.
func step(n int64) int64 {
	s := max(int64(float64(n)*0.6180339887498949), 1)
	for gcd(s, n) != 1 {
		s++
	}
	return s
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func mulmod(a, b, n int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	_, rem := bits.Div64(hi, lo, uint64(n))
	return int64(rem)
}

// PointSource generates points: id by the key layout, and x, y, z uniform in [0,1024).
// Row i depends on the seed and i alone. It is safe for concurrent use.
type PointSource struct {
	Seed uint64
	Keys KeyLayout
}

// Columns returns id, x, y, z.
func (p PointSource) Columns() []rows.Column {
	return []rows.Column{
		{Name: "id", Kind: rows.Int},
		{Name: "x", Kind: rows.Float},
		{Name: "y", Kind: rows.Float},
		{Name: "z", Kind: rows.Float},
	}
}

// Fill computes the rows of span. It never fails.
func (p PointSource) Fill(c *rows.Chunk, span chunker.Span) error {
	n := int(span.Count)
	c.Reset(span, n)
	ids, x, y, z := c.Col(0).Ints, c.Col(1).Floats, c.Col(2).Floats, c.Col(3).Floats
	seed := Mix(p.Seed)
	for i := 0; i < n; {
		// The rows of one block have consecutive keys.
		row := span.First + int64(i)
		key, run := p.Keys.Key(row), n-i
		if p.Keys.Block > 0 {
			run = min(run, int(p.Keys.Block-row%p.Keys.Block))
		}
		for end := i + run; i < end; i++ {
			k := 3 * uint64(row)
			ids[i] = key
			x[i] = coordinate(Random(seed, k))
			y[i] = coordinate(Random(seed, k+1))
			z[i] = coordinate(Random(seed, k+2))
			key++
			row++
		}
	}
	return nil
}

// coordinate maps a random number to [0,1024): 53 random bits times 2^-43.
func coordinate(r uint64) float64 { return float64(r>>11) * (1.0 / (1 << 43)) }

// baseOf returns a key base for points that are written without a server. It depends on the seed
// and the number of rows alone.
func baseOf(seed uint64, rows int64) int64 {
	return MinKeyBase + int64(Below(Random(Mix(seed^0x6b65), 0), uint64(max(MaxKeyBase-MinKeyBase-rows, 1))))
}
