package keysize

import (
	"math"
	"slices"

	"bulkload/chunker"
)

// A Schema describes the parts of a table that determine its key sizes. Its methods do not
// change it, and several goroutines may read it.
type Schema struct {
	TenantID uint64 // zero or 1 means the system tenant, whose keys have no prefix
	// TableID is the table's descriptor id; zero assumes the longest possible id.
	TableID int64
	// Columns is the number of the table's columns, including hidden ones; zero means unknown.
	Columns  int
	Families []Family // nil means one family
	Indexes  []Index  // the primary index and all others
}

// A Family is a column family. Each family has its own key-value pair in each row.
type Family struct {
	ID      int // from the table's descriptor; not always consecutive
	Name    string
	Columns []string
	// NotNull says that the family has a value in every row: one of its columns outside the
	// primary key is NOT NULL, or always given. Without it the family may lack a key-value pair
	// in a row, except family 0, which always has one.
	NotNull bool
}

// An Index is the primary or a secondary index of a table.
type Index struct {
	// ID is the index's number in the table. Zero, if the server does not report it, assumes a
	// number up to 65 535.
	ID       int64
	Name     string
	Primary  bool
	Unique   bool // ignored for a primary index, which is always unique
	Inverted bool // GIN; the last column is the inverted one
	Trigram  bool // an inverted index on text, with gin_trgm_ops
	Partial  bool // has a WHERE: rows outside it have no entry
	// Columns are the index's own columns, in order, including the computed column of a
	// hash-sharded index and the region column of REGIONAL BY ROW. Primary key columns that
	// CockroachDB appends are not included.
	Columns []KeyColumn
	Storing []string // stored columns, not part of the key
	// Ancestors is the number of tables in which the index is interleaved (up to 21.1).
	Ancestors int
}

// RowInfo describes the server and the rows, as far as they determine key sizes.
type RowInfo struct {
	// Major and Minor are the CockroachDB version, for example 21 and 1. Zero assumes the
	// version with the largest overhead.
	Major, Minor int
	// Ints maps integer columns to the range of their values. Other columns may contain any
	// number.
	Ints map[string]IntRange
	// Absent are the columns that the rows leave to their defaults. Their values are not text
	// of the record.
	Absent []string
	// MaxRecordBytes is the length of the longest record. It is needed only for inverted
	// indexes, whose keys grow with its square. Zero means DefaultMaxRecordBytes.
	MaxRecordBytes int64
	// MaxElements is the maximum number of array elements, or JSON leaves, in a value of an
	// inverted index: one more than the number of commas. Zero means unknown: then the record's
	// length bounds it, which is far too high for documents with long texts.
	MaxElements int64
}

// DefaultMaxRecordBytes is the default of RowInfo.MaxRecordBytes: for longer records the key
// sizes of an inverted index are no longer a bound.
const DefaultMaxRecordBytes = 1024

// An IndexCost is the amount that one row adds to an index.
type IndexCost struct {
	Index *Index
	// Key is the total size of the row's keys in this index, including the span overhead of
	// each.
	Key Size
	// KVs is the number of key-value pairs. KVsPerByte is added for each byte of the record
	// (inverted indexes).
	KVs, KVsPerByte int64
}

// Cost returns the key-value pairs and intent bytes that a row adds to a transaction, over all
// indexes. It is exact if every row has the same size, otherwise an upper bound. Guess says
// that there is no bound. The cost of the message depends on the method of loading and is not
// set.
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

// IndexCosts returns the cost of a row in each index, in the order of s.Indexes.
func (s Schema) IndexCosts(g RowInfo) []IndexCost {
	costs := make([]IndexCost, len(s.Indexes))
	for i := range s.Indexes {
		costs[i] = s.indexCost(&s.Indexes[i], g)
	}
	return costs
}

// SumIntentBytes returns the intent bytes of count rows whose generated key column has
// consecutive values, starting at first. exact reports whether the rest of the key has a fixed
// size; otherwise the sum is an upper bound.
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

// evenRanges splits count numbers, starting at first, where the size of their keys changes in
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

// primary returns the columns of the primary key, or nil if no index is primary.
func (s Schema) primary() []KeyColumn {
	for i := range s.Indexes {
		if s.Indexes[i].Primary {
			return s.Indexes[i].Columns
		}
	}
	return nil
}

// keyColumns returns the columns in the keys of x: its own, and the missing columns of the
// primary key, which are ascending. A unique index has the latter only in rows with a NULL in
// one of its own columns.
func (s Schema) keyColumns(x *Index) []KeyColumn {
	cols := slices.Clone(x.Columns)
	nullable := false
	for i := range cols {
		// A primary key column is never NULL, even if it is declared nullable.
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

// prefix returns the size of the common prefix of all keys of x.
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
		// Each ancestor table writes its own ids and a marker. Its ids are no longer than this
		// table's, which was created later.
		n += int64(x.Ancestors) * (1 + UintKeyBytes(uint64(table)) + UintKeyBytes(math.MaxUint16))
		exact = false
	}
	return Size{Bytes: n, Exact: exact}
}

// indexCost returns what a row adds to x. The steps follow EncodePrimaryIndex and
// EncodeSecondaryIndex of pkg/sql/rowenc/index_encoding.go, v21.1.5.
func (s Schema) indexCost(x *Index, g RowInfo) IndexCost {
	// 1. The key up to the family: prefix, own columns, missing primary key columns.
	key := s.prefix(x)
	cols := s.keyColumns(x)
	own := len(x.Columns)
	if x.Unique && !x.Primary && len(cols) > own {
		key.Exact = false // the primary key is appended only beside a NULL
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
		// The columns of one record share its bytes: each byte belongs to one column.
		// Expressions may use the same text again.
		if c.Computed {
			key.PerByte += z.PerByte
		} else {
			text = max(text, z.PerByte)
		}
	}
	key.PerByte += text

	// 2. One key per element, or per column family.
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
				// The column that makes the family NotNull may not be among the stored ones.
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

// inKeyOnly reports whether the primary key contains a column's whole value. Then the column's
// family need not store it.
func (s Schema) inKeyOnly(column string) bool {
	return slices.ContainsFunc(s.primary(), func(c KeyColumn) bool { return c.Name == column && !c.composite() })
}
