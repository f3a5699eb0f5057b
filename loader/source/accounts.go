package source

import (
	"fmt"
	"slices"

	"bulkload/chunker"
	"bulkload/loader/rows"
)

// The tutorial's accounts: ids in [0,AccountIDs), balances in [0,AccountBalances).
const (
	AccountIDs      = 1_000_000_000
	AccountBalances = 1_000_000
)

// Accounts generates bank accounts. The ids of a load are distinct: row i has the
// i-th place of a permutation of all ids that the seed chooses. They look random
// over the whole range, and need no memory. Within a chunk the rows are sorted by
// id. It is safe for concurrent use.
type Accounts struct {
	Seed uint64
	Rows int64 // rows of the load, at most AccountIDs
}

// Columns returns id, balance.
func (a Accounts) Columns() []rows.Column {
	return []rows.Column{{Name: "id", Kind: rows.Int}, {Name: "balance", Kind: rows.Int}}
}

// ID returns the id of row, counted from 0.
func (a Accounts) ID(row int64) int64 { return permute(mix(a.Seed), row) }

// Balance returns the balance of row, counted from 0.
func (a Accounts) Balance(row int64) int64 {
	return int64(below(random(mix(a.Seed^0xb), uint64(row)), AccountBalances))
}

// Redraw returns the id that row tries next when attempt ids before it, the first
// one included, belonged to other rows. Redrawn ids come from those that are no
// row's first id; two rows may be given the same, and the database then passes it
// by like any other that is taken. The error says that the load leaves none.
func (a Accounts) Redraw(row int64, attempt int) (int64, error) {
	free := AccountIDs - a.Rows
	if free <= 0 {
		return 0, fmt.Errorf("no free account id is left for row %d", row)
	}
	at := below(random(mix(a.Seed^0xd), uint64(row)<<16|uint64(attempt)), uint64(free))
	return permute(mix(a.Seed), a.Rows+int64(at)), nil
}

// Fill computes the rows of span, sorted by id. It never fails.
func (a Accounts) Fill(c *rows.Chunk, span chunker.Span) error {
	n := int(span.Count)
	c.Reset(span, n)
	ids, balances := c.Col(0).Ints, c.Col(1).Ints
	// An id has 30 bits and a row's place in its chunk fewer than 33, so both
	// are sorted as one number.
	seed := mix(a.Seed)
	for i := range ids {
		ids[i] = permute(seed, span.First+int64(i))<<33 | int64(i)
	}
	slices.Sort(ids)
	if cap(c.RowNumbers) < n {
		c.RowNumbers = make([]int64, n)
	}
	c.RowNumbers = c.RowNumbers[:n]
	for i, packed := range ids {
		row := span.First + packed&(1<<33-1)
		ids[i], c.RowNumbers[i], balances[i] = packed>>33, row, a.Balance(row)
	}
	return nil
}

// permute returns the image of x under a permutation of [0,AccountIDs) chosen by
// seed: a Feistel network over 30 bits, walked until it is in range again (Black
// and Rogaway: Ciphers with Arbitrary Finite Domains, 2002). 2^30 is 7 % above
// AccountIDs, so that one step is nearly always enough.
func permute(seed uint64, x int64) int64 {
	const half, mask = 15, 1<<15 - 1
	for {
		l, r := uint64(x)>>half, uint64(x)&mask
		for round := range uint64(6) {
			l, r = r, l^mix(seed+round<<32+r)&mask
		}
		x = int64(l<<half | r)
		if x < AccountIDs {
			return x
		}
	}
}
