package anytable

import (
	"hash/fnv"
	"math/bits"

	"bulkload/loader/dataset"
)

// A generator computes the rows of one table. It is a part of the load's record: the value of a
// column depends on the generator and the row's number alone.
type generator struct {
	Table string `json:"table"` // for messages
	Seed  uint64 `json:"seed,string"`
	Rows  int64  `json:"rows"`
	Rules []rule `json:"rules"`
	// Parents hold the rows to which the rules' foreign keys point.
	Parents []parent `json:"parents,omitempty"`
	// InOrder is the foreign key by which rows point to earlier rows of the table, so that chunks
	// go in order; empty: they go in any.
	InOrder string `json:"in_order_of,omitempty"`
	// Lists tells the lists of words of one version of loader from those of another.
	Lists string `json:"lists"`
}

// A rule says how the values of one column are made: Pick chooses an index for a row, and Form
// turns the index into text.
type rule struct {
	Column string `json:"column"`
	// Group names the stream of random numbers. Columns of one group pick the same index.
	Group string  `json:"group"`
	Nulls float64 `json:"nulls,omitempty"` // share of NULLs
	Pick  pick    `json:"pick"`
	Form  form    `json:"form"`
	// SQL is an expression that the server computes; then nothing else is set.
	SQL string `json:"sql,omitempty"`
	// Why describes the rule to people.
	Why string `json:"why,omitempty"`
}

// A picking is a way to choose an index.
type picking string

// The ways to choose an index. Each but the first three may choose one index for many rows.
const (
	byRow     picking = "row"     // the row's number, permuted
	byBlock   picking = "block"   // the row's number; blocks of rows are scattered
	byDigit   picking = "digit"   // a digit of the row's number: a part of a key of several columns
	uniformly picking = "uniform" // any index below N
	skewed    picking = "zipf"    // below N, small ones more often
	normally  picking = "normal"  // below N, around the middle
	weighted  picking = "weights" // by Weights
	earlier   picking = "earlier" // an earlier row of the same table
	above     picking = "above"   // the index of column Of, plus up to N
)

// A pick chooses the index of a row.
type pick struct {
	Kind picking `json:"kind"`
	N    uint64  `json:"n,omitempty"` // number of indexes; zero is 2^64
	// Block is the number of rows of a block.
	Block int64 `json:"block,omitempty"`
	// Div and Mod select a digit. Higher is the product of the digits up to this one: all rows of a
	// higher digit begin at an index of their own. Zero: they begin at 0.
	Div    uint64 `json:"div,omitempty"`
	Mod    uint64 `json:"mod,omitempty"`
	Higher uint64 `json:"higher,omitempty"`
	// Weights are cumulative.
	Weights []uint64 `json:"weights,omitempty"`
	Mean    int64    `json:"mean,omitempty"`
	SD      int64    `json:"sd,omitempty"`
	Of      string   `json:"of,omitempty"`
	// Plus is the minimum of the difference to column Of.
	Plus uint64 `json:"plus,omitempty"`
}

// A parent is what a foreign key points to: rows whose keys are computed, or a sample of keys that
// was read once.
type parent struct {
	Table    string     `json:"table"`
	Self     bool       `json:"self,omitempty"`
	Computed *generator `json:"computed,omitempty"`
	Sample   [][]string `json:"sample,omitempty"` // column by column
	Columns  []string   `json:"columns"`
}

// rule returns the rule of a column, or nil.
func (g *generator) rule(column string) *rule {
	for i := range g.Rules {
		if g.Rules[i].Column == column {
			return &g.Rules[i]
		}
	}
	return nil
}

// streamOf returns the seed of a stream of random numbers.
func streamOf(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return dataset.Mix(seed ^ h.Sum64())
}

// A column computes the values of one column. It is safe for concurrent use.
type column struct {
	stream uint64
	nulls  uint64 // of 2^64
	pick   func(row int64, random uint64) uint64
	make   func(buf []byte, index, random uint64) []byte
}

// AppendValue implements rows.Appender.
func (c *column) AppendValue(buf []byte, row int64) (text []byte, null bool) {
	if c.nulls > 0 && dataset.Random(c.stream^nullStream, uint64(row)) < c.nulls {
		return nil, true
	}
	r := dataset.Random(c.stream, uint64(row))
	i := c.pick(row, r)
	if i == noIndex {
		return nil, true
	}
	return c.make(buf, i, r), false
}

// nullStream tells the random numbers for NULLs from those for values.
const nullStream = 0x9d5c0fe2b1a3847d

// noIndex is the index of a row that has none: its value is NULL.
const noIndex = ^uint64(0)

// index returns the index of a row; false: its value is NULL.
func (c *column) index(row int64) (uint64, bool) {
	if c.nulls > 0 && dataset.Random(c.stream^nullStream, uint64(row)) < c.nulls {
		return 0, false
	}
	i := c.pick(row, dataset.Random(c.stream, uint64(row)))
	return i, i != noIndex
}

// share returns a share as a bound of random numbers.
func share(f float64) uint64 {
	switch {
	case f <= 0:
		return 0
	case f >= 1:
		return ^uint64(0)
	}
	return uint64(f*(1<<53)) << 11
}

// compile returns the columns of the rules that have one.
func (g *generator) compile() ([]*column, error) {
	b := &builder{generator: g, built: map[string]*column{}}
	var list []*column
	for i := range g.Rules {
		if g.Rules[i].SQL != "" {
			continue
		}
		c, err := b.column(&g.Rules[i])
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// A builder compiles the rules of one generator.
type builder struct {
	*generator
	built map[string]*column
}

func (b *builder) column(r *rule) (*column, error) {
	if c := b.built[r.Column]; c != nil {
		return c, nil
	}
	c := &column{stream: streamOf(b.Seed, r.Group), nulls: share(r.Nulls)}
	b.built[r.Column] = c
	var err error
	if c.make, err = b.textOf(r); err != nil {
		return nil, err
	}
	c.pick, err = b.picker(r)
	return c, err
}

// picker compiles a pick.
func (b *builder) picker(r *rule) (func(row int64, random uint64) uint64, error) {
	p, stream := r.Pick, streamOf(b.Seed, r.Group)
	switch n := p.N; p.Kind {
	case byRow:
		if n < 2 {
			return func(row int64, _ uint64) uint64 { return uint64(row) }, nil
		}
		step, start := stepOf(n), dataset.Below(stream, n)
		return func(row int64, _ uint64) uint64 {
			hi, lo := bits.Mul64(uint64(row), step)
			var carry uint64
			lo, carry = bits.Add64(lo, start, 0)
			_, rem := bits.Div64((hi+carry)%n, lo, n)
			return rem
		}, nil
	case byBlock:
		layout := dataset.KeyLayout{Rows: b.Rows, Block: p.Block}
		return func(row int64, _ uint64) uint64 { return uint64(layout.Key(row)) }, nil
	case byDigit:
		return func(row int64, _ uint64) uint64 {
			digit := uint64(row) / p.Div % p.Mod
			if p.Higher > 0 {
				digit = (digit + dataset.Below(dataset.Random(stream, uint64(row)/p.Higher), n)) % n
			}
			return digit
		}, nil
	case skewed:
		length := uint64(bits.Len64(n))
		return func(_ int64, random uint64) uint64 {
			// Each length in bits is as likely as any other: about the distribution of Zipf.
			low := uint64(1)<<dataset.Below(random, length) - 1
			return low + dataset.Below(dataset.Mix(random), min(low+1, n-low))
		}, nil
	case normally:
		return func(_ int64, random uint64) uint64 {
			// The sum of twelve uniform numbers (Irwin and Hall) in integers is the same on
			// every machine.
			sum := int64(0)
			for range 3 {
				random = dataset.Mix(random)
				sum += int64(random&0xffff + random>>16&0xffff + random>>32&0xffff + random>>48)
			}
			i := p.Mean + p.SD*(sum-6*0xffff)/0x10000
			return uint64(min(max(i, 0), int64(n)-1))
		}, nil
	case weighted:
		total := p.Weights[len(p.Weights)-1]
		return func(_ int64, random uint64) uint64 {
			at := dataset.Below(random, total)
			for i, w := range p.Weights {
				if at < w {
					return uint64(i)
				}
			}
			return 0
		}, nil
	case earlier:
		return func(row int64, random uint64) uint64 {
			if row == 0 {
				if p.Of != "" {
					return 0 // the first row is its own parent
				}
				return noIndex
			}
			return dataset.Below(random, uint64(row))
		}, nil
	case above:
		of, err := b.column(b.rule(p.Of))
		if err != nil {
			return nil, err
		}
		return func(row int64, random uint64) uint64 {
			i, ok := of.index(row)
			if !ok {
				i = 0
			}
			return i + p.Plus + dataset.Below(random, n)
		}, nil
	}
	if n := p.N; n > 0 {
		return func(_ int64, random uint64) uint64 { return dataset.Below(random, n) }, nil
	}
	return func(_ int64, random uint64) uint64 { return random &^ (1 << 63) }, nil
}

// stepOf returns the step of a permutation of n numbers: without a common divisor with n, near the
// golden section of it.
func stepOf(n uint64) uint64 {
	step := max(dataset.Below(0x9e3779b97f4a7c15, n), 1)
	for gcd(step, n) != 1 {
		step++
	}
	return step
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
