package keysize

import (
	"math"
	"slices"

	"bulkload/chunker"
)

// A Schema is a table as far as the size of its keys goes. A Schema is not
// changed by its methods and may be read by several goroutines.
type Schema struct {
	TenantID uint64 // zero or 1 is the system tenant, whose keys have no prefix
	// TableID is the table's descriptor id; zero takes the longest id there is.
	TableID int64
	// Columns is the number of the table's columns, hidden ones included; zero is not
	// known.
	Columns  int
	Families []Family // nil is one family
	Indexes  []Index  // the primary one and all others
}

// A Family is a column family: a key-value pair of its own for each row.
type Family struct {
	ID      int // from the table's descriptor; not always consecutive
	Name    string
	Columns []string
	// NotNull says that every row has a value in it: one of its columns
	// outside the primary key is NOT NULL, or always given. Without it the
	// family may have no key-value pair in a row (family 0 always has).
	NotNull bool
}

// An Index is the primary or a secondary index of a table.
type Index struct {
	// ID is the index' number in the table; zero takes one up to 65 535, for
	// where the server does not say.
	ID       int64
	Name     string
	Primary  bool
	Unique   bool // a primary index is unique whatever this says
	Inverted bool // GIN; its last column is the inverted one
	Trigram  bool // an inverted index over text, with gin_trgm_ops
	Partial  bool // has a WHERE: rows outside it have no entry
	// Columns are the index' own columns, in order, with the computed column
	// of a hash-sharded index and the region of REGIONAL BY ROW. The columns
	// of the primary key that CockroachDB appends are not among them.
	Columns []KeyColumn
	Storing []string // columns that are stored, not part of the key
	// Ancestors is the number of tables that the index is interleaved in (up
	// to 21.1).
	Ancestors int
}

// RowInfo is what is known beyond the table: the server, and the rows.
type RowInfo struct {
	// Major and Minor are the CockroachDB version: 21, 1. Zero is one that has
	// the largest overhead.
	Major, Minor int
	// Ints is the range of the values of integer columns, by name; columns that
	// are not in it may hold any number.
	Ints map[string]IntRange
	// Absent are the columns that the rows leave to their default, whose text
	// is none of the record's.
	Absent []string
	// MaxRecordBytes is the length of the longest record, which is needed only
	// for inverted indexes, whose keys grow with the square of it. Zero
	// is DefaultMaxRecordBytes.
	MaxRecordBytes int64
	// MaxElements is the most elements of an array, or leaves of a JSON document,
	// in a value of an inverted index: one more than it has commas. Zero is
	// unknown; then they are bounded by the length of the record, which for
	// documents of long texts is far too many.
	MaxElements int64
}

// DefaultMaxRecordBytes is the length of record up to which the size of the keys
// of an inverted index is a bound where RowInfo says nothing.
const DefaultMaxRecordBytes = 1024

// IndexCost is what one row adds to an index.
type IndexCost struct {
	Index *Index
	// Key is the size of all keys of the row in this index, with the span
	// overhead of each.
	Key Size
	// KVs is the number of its key-value pairs, KVsPerByte more for each byte
	// of the record (inverted indexes).
	KVs, KVsPerByte int64
}

// Cost returns what a row of the table adds to a transaction: key-value pairs and
// intent bytes over all indexes. It is exact where every row has the same size,
// else the most that a row can add; Guess says that not even that could be known.
// The cost of the message depends on the way of loading and is not set.
func (s Schema) Cost(g RowInfo) chunker.Cost {
	c := chunker.Cost{Exact: true}
	for _, i := range s.IndexCosts(g) {
		c.KVs += i.KVs
		c.KVsPerByte += i.KVsPerByte
		c.IntentBytes += i.Key.Bytes
		c.IntentPerByte += i.Key.PerByte
		c.Exact = c.Exact && i.Key.Exact
		c.Guess = c.Guess || i.Key.Guess
		if !i.Index.Primary && len(i.Index.Storing) > 0 {
			c.ValueCopies++
		}
	}
	return c
}

// IndexCosts returns what a row adds to each index, in the order of s.Indexes.
func (s Schema) IndexCosts(g RowInfo) []IndexCost {
	costs := make([]IndexCost, len(s.Indexes))
	for i := range s.Indexes {
		costs[i] = s.indexCost(&s.Indexes[i], g)
	}
	return costs
}

// SumIntentBytes returns the intent bytes of count rows whose integer column has
// consecutive values from first on: exactly, where the rest of the key has one
// size (the result says so), else at most. column is the generated key.
func (s Schema) SumIntentBytes(g RowInfo, column string, first, count int64) (sum int64, exact bool) {
	exact = true
	for _, r := range evenRanges(first, count) {
		ints := map[string]IntRange{column: r}
		for name, other := range g.Ints {
			if name != column {
				ints[name] = other
			}
		}
		g := g
		g.Ints = ints
		cost := s.Cost(g)
		sum += (r.Last - r.First + 1) * cost.IntentBytes
		exact = exact && cost.Exact && cost.IntentPerByte == 0
	}
	return sum, exact
}

// evenRanges cuts count numbers from first on where the size of their keys changes, in
// either direction.
func evenRanges(first, count int64) []IntRange {
	var starts []int64
	for _, s := range intSteps {
		starts = append(starts, s.first, ^s.first+1)
	}
	slices.Sort(starts)
	var list []IntRange
	last := first + count - 1
	for _, start := range starts {
		if first < start && start <= last {
			list = append(list, IntRange{first, start - 1})
			first = start
		}
	}
	if first <= last {
		list = append(list, IntRange{first, last})
	}
	return list
}

// primary returns the columns of the primary key; none when no index is primary.
func (s Schema) primary() []KeyColumn {
	for i := range s.Indexes {
		if s.Indexes[i].Primary {
			return s.Indexes[i].Columns
		}
	}
	return nil
}

// keyColumns returns the columns that make up the keys of x: its own, and the
// primary key's that are missing, which are kept ascending. A unique index has
// them only in rows where one of its own columns is NULL.
func (s Schema) keyColumns(x *Index) []KeyColumn {
	cols := slices.Clone(x.Columns)
	nullable := false
	for i := range cols {
		// A column of the primary key is never NULL, whatever it says.
		if slices.ContainsFunc(s.primary(), func(p KeyColumn) bool { return p.Name == cols[i].Name }) {
			cols[i].Nullable = false
		}
		nullable = nullable || cols[i].Nullable
	}
	if x.Primary || x.Unique && !nullable {
		return cols
	}
	for _, p := range s.primary() {
		if !slices.ContainsFunc(x.Columns, func(c KeyColumn) bool { return c.Name == p.Name && !x.Inverted }) {
			p.Desc, p.Nullable = false, false
			cols = append(cols, p)
		}
	}
	return cols
}

// prefix returns the size of what all keys of x begin with.
func (s Schema) prefix(x *Index) Size {
	table, index, exact := s.TableID, x.ID, true
	if table <= 0 {
		table, exact = math.MaxUint32, false
	}
	if index <= 0 {
		index, exact = math.MaxUint16, false
	}
	n := PrefixBytes(s.TenantID, table, index)
	if x.Ancestors > 0 {
		// Each table above writes its own ids and a marker; its ids are no
		// longer than those of the table, which was made after it.
		n += int64(x.Ancestors) * (1 + UintKeyBytes(uint64(table)) + UintKeyBytes(math.MaxUint16))
		exact = false
	}
	return Size{Bytes: n, Exact: exact}
}

// indexCost returns what a row adds to x. The steps follow EncodePrimaryIndex and
// EncodeSecondaryIndex of pkg/sql/rowenc/index_encoding.go, v21.1.5.
func (s Schema) indexCost(x *Index, g RowInfo) IndexCost {
	// 1. The key up to the family: prefix, own columns, missing primary key
	// columns.
	key := s.prefix(x)
	cols := s.keyColumns(x)
	own := len(x.Columns)
	if x.Unique && !x.Primary && len(cols) > own {
		key.Exact = false // the primary key is there only beside a NULL
	}
	var text int64
	cols = slices.Clone(cols)
	for i, c := range cols {
		if r, ok := g.Ints[c.Name]; ok && c.Kind == KeyInt {
			c.Ints = &r
		}
		c.Computed = c.Computed || slices.Contains(g.Absent, c.Name)
		cols[i] = c
		if x.Inverted && i == own-1 {
			continue
		}
		z := c.Size()
		key.Bytes += z.Bytes
		key.Exact = key.Exact && z.Exact && z.PerByte == 0
		key.Guess = key.Guess || z.Guess
		// The columns of one record share its bytes: what one has, another
		// has not. Expressions may use the same text again.
		if c.Computed {
			key.PerByte += z.PerByte
		} else {
			text = max(text, z.PerByte)
		}
	}
	key.PerByte += text

	// 2. One key for each element, or for each column family.
	if x.Inverted && own > 0 {
		return s.invertedCost(x, key, g)
	}
	cost := IndexCost{Index: x, Key: Size{Exact: key.Exact && !x.Partial, Guess: key.Guess}}
	for _, f := range s.families(x) {
		cost.KVs++
		one := s.span(x, key, cols, own, f.ID, g)
		cost.Key.Bytes += one.Bytes
		cost.Key.PerByte += one.PerByte
		cost.Key.Exact = cost.Key.Exact && one.Exact
		if f.ID != 0 && !f.NotNull {
			cost.Key.Exact = false
		}
	}
	return cost
}

// families returns the column families that may have a key-value pair in x.
func (s Schema) families(x *Index) []Family {
	zero := []Family{{ID: 0, NotNull: true}}
	if len(s.Families) <= 1 {
		return zero
	}
	var list []Family
	for _, f := range s.Families {
		switch {
		case f.ID == 0:
			list = append(list, f)
		case !x.Primary:
			if slices.ContainsFunc(f.Columns, func(c string) bool { return slices.Contains(x.Storing, c) }) {
				// The column that makes the family NotNull may be another
				// one than those stored.
				f.NotNull = false
				list = append(list, f)
			}
		case slices.ContainsFunc(f.Columns, func(c string) bool { return !s.inKeyOnly(c) }):
			list = append(list, f)
		}
	}
	if !slices.ContainsFunc(list, func(f Family) bool { return f.ID == 0 }) {
		list = append(zero, list...)
	}
	return list
}

// inKeyOnly reports whether a column's value is wholly in the primary key, so that
// its family need not hold it.
func (s Schema) inKeyOnly(column string) bool {
	return slices.ContainsFunc(s.primary(), func(c KeyColumn) bool { return c.Name == column && !c.composite() })
}
