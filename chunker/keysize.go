package chunker

import "math/bits"

// The sizes below are those of CockroachDB's order-preserving key encoding, read in
// pkg/util/encoding/encoding.go, pkg/keys and pkg/sql/rowenc of v21.1 and checked on
// a live server against crdb_internal.encode_key.

// UvarintBytes returns the bytes of n, a table or index id or a family number, in a
// key: 1 up to 109, else 1 and as many as its value needs.
func UvarintBytes(n uint64) int64 {
	if n <= 109 {
		return 1
	}
	return 1 + int64(bits.Len64(n)+7)/8
}

// IntKeyBytes returns the bytes of an INT, DATE or BOOL column with value v in an
// ascending key. Descending, it is that of -1-v.
func IntKeyBytes(v int64) int64 {
	if v >= 0 {
		return UvarintBytes(uint64(v))
	}
	// Negative numbers: a marker and the bytes of the two's complement that are
	// not all ones.
	return 1 + int64(bits.Len64(uint64(-v))+7)/8
}

// A KeyColumn is a column of an index, as far as its size in a key goes.
type KeyColumn struct {
	Name string
	// MaxBytes bounds the column's bytes in a key, without those that depend on
	// the length of its text.
	MaxBytes int64
	// PerByte is added for each byte of the row's record, for columns of text.
	PerByte int64
	// Exact says that every value takes just MaxBytes.
	Exact bool
}

// SizeOf returns the size of a column of the given SQL type in a key. Types are those
// of the SQL standard and of pg_catalog's format_type; what is not known is bounded
// like text.
func SizeOf(name, sqlType string) KeyColumn {
	switch sqlType {
	case "bigint", "integer", "smallint", "int8", "int4", "int2":
		return KeyColumn{Name: name, MaxBytes: 9}
	case "boolean", "bool":
		return KeyColumn{Name: name, MaxBytes: 1, Exact: true}
	case "date":
		return KeyColumn{Name: name, MaxBytes: 9}
	case "double precision", "real", "float8", "float4":
		return KeyColumn{Name: name, MaxBytes: 9}
	case "uuid":
		// 16 bytes, each 00 escaped by one more, marker and terminator.
		return KeyColumn{Name: name, MaxBytes: 19 + 16}
	case "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz":
		return KeyColumn{Name: name, MaxBytes: 1 + 9 + 9}
	case "time without time zone", "time":
		return KeyColumn{Name: name, MaxBytes: 9}
	case "time with time zone", "timetz":
		return KeyColumn{Name: name, MaxBytes: 1 + 9 + 9}
	case "interval":
		return KeyColumn{Name: name, MaxBytes: 1 + 9 + 9 + 9}
	}
	// Text, bytes, decimals, arrays and the rest: length + 3, and each 00 byte
	// twice. A record of text has no 00; \x input has two digits a byte.
	return KeyColumn{Name: name, MaxBytes: 3, PerByte: 1}
}

// An Index is an index of a table, as far as its size goes.
type Index struct {
	Name    string
	ID      uint64 // 1 for the primary index, usually
	Primary bool
	Unique  bool
	// Columns are the columns of the key in order: for a secondary index its own
	// and behind them the primary key's that are not among them.
	Columns []KeyColumn
}

// A Schema is a table, as far as the sizes of its keys go.
type Schema struct {
	TableID     uint64
	TenantBytes int64 // bytes of the tenant prefix; zero for the system tenant
	Families    int   // column families; at least 1
	Indexes     []Index
}

// SpanOverhead returns the bytes that a server of version major.minor counts for each
// key beside the key itself: none up to 22.1, the size of the span's struct and the
// slack of its slices from 22.2 on, of which this is a bound.
func SpanOverhead(major, minor int) int64 {
	if major < 22 || major == 22 && minor < 2 {
		return 0
	}
	return 48 + 64
}

// Cost returns what one row adds to a transaction. overhead is SpanOverhead's. The
// result's message bytes are zero: they depend on how rows are sent.
func (s Schema) Cost(overhead int64) Cost {
	families := int64(max(s.Families, 1))
	c := Cost{Exact: true}
	for _, x := range s.Indexes {
		bytes, perByte, exact := s.indexBytes(x)
		n := int64(1)
		if x.Primary {
			n = families
			// Family 0 adds one byte, family k two and more.
			for k := int64(1); k < families; k++ {
				c.IntentBytes += UvarintBytes(uint64(k))
			}
		}
		c.KVs += n
		c.IntentBytes += n * (bytes + overhead)
		c.IntentPerByte += n * perByte
		c.Exact = c.Exact && exact && perByte == 0 && overhead == 0
	}
	return c
}

// indexBytes returns the bytes of one key of an index, family suffix 0 included.
func (s Schema) indexBytes(x Index) (fixed, perByte int64, exact bool) {
	fixed = s.TenantBytes + UvarintBytes(s.TableID) + UvarintBytes(x.ID) + 1
	exact = true
	for _, col := range x.Columns {
		fixed += col.MaxBytes
		perByte += col.PerByte
		exact = exact && col.Exact
	}
	return fixed, perByte, exact
}
