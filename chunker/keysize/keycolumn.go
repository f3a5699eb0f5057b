package keysize

import "math"

// A KeyKind is CockroachDB's encoding of a column's values in a key. Several SQL types share
// one kind.
type KeyKind int

// The kinds of key column, with their SQL types.
const (
	KeyOther     KeyKind = iota // an unknown type: its size is a guess
	KeyInt                      // INT2, INT4, INT8, SERIAL; and the computed column of a hash-sharded index
	KeyBool                     // BOOL
	KeyDate                     // DATE
	KeyTime                     // TIME
	KeyTimeTZ                   // TIMETZ
	KeyTimestamp                // TIMESTAMP, TIMESTAMPTZ
	KeyInterval                 // INTERVAL
	KeyFloat                    // FLOAT4, FLOAT8
	KeyDecimal                  // DECIMAL, NUMERIC
	KeyString                   // STRING, TEXT, VARCHAR, CHAR, "char", NAME, and citext
	KeyBytes                    // BYTES, BYTEA
	KeyCollated                 // STRING COLLATE …
	KeyUUID                     // UUID
	KeyINet                     // INET
	KeyEnum                     // an ENUM type, crdb_internal_region
	KeyBit                      // BIT, VARBIT
	KeyOID                      // OID, REGCLASS, REGTYPE and their like
	KeyArray                    // an array of Elem
	KeyJSON                     // JSONB, in a key from 23.2 on; inverted before
	KeyGeo                      // GEOMETRY, GEOGRAPHY
	KeyBox2D                    // BOX2D
	KeyTSVector                 // TSVECTOR, inverted only
)

// A KeyColumn is a column of an index, with the known facts about the size of its values.
type KeyColumn struct {
	Name     string // as in the table; for an expression, its text
	Kind     KeyKind
	Elem     KeyKind // of an array's elements
	Desc     bool
	Nullable bool
	// Width is the declared size: bytes of an INT (2, 4 or 8), digits of a DECIMAL, characters
	// of a VARCHAR, bits of a BIT, labels of an ENUM. Zero means no declared size.
	Width int64
	// Ints is the range of all values, for KeyInt; nil means the whole range of the type.
	Ints *IntRange
	// Computed says that the value is the result of an expression or a default, not text of the
	// row's record. Then the record's length does not determine its length.
	Computed bool
}

// An IntRange is the integers from First to Last, both inclusive.
type IntRange struct{ First, Last int64 }

// A Size is the maximum size of something in a key: Bytes, plus PerByte for each byte of the
// row's record if the value is text.
type Size struct {
	Bytes   int64
	PerByte int64
	// Exact says that every row takes exactly Bytes.
	Exact bool
	// Guess says that the size is not even a bound: the value comes from an expression, or its
	// type is unknown, so its length is unknown before the row is committed.
	Guess bool
}

// For returns the size for a record of recordBytes bytes.
func (s Size) For(recordBytes int64) int64 { return s.Bytes + s.PerByte*recordBytes }

// guessedTextBytes is the assumed size of a text expression of unknown length: a hash in
// hexadecimal.
const guessedTextBytes = 64

// Size returns the size of the column in a key. It is exact for types of fixed size. For other
// types it is the size of the longest value: the number furthest from zero, or an address full
// of zero bytes, which take two bytes each. The length of the row's record, in the database's
// own text form, bounds text. Text is assumed to contain no byte 0x00; StringKeyBytes counts
// one more byte for each.
func (c KeyColumn) Size() Size {
	s := c.notNull()
	if c.Nullable && s != (Size{Bytes: NullKeyBytes, Exact: true}) {
		s.Exact = false
	}
	if c.Computed && s.PerByte > 0 {
		// upper() makes at most three bytes of one; other functions have no known bound.
		s.Bytes += guessedTextBytes
		s.PerByte *= 3
		s.Guess = true
	}
	return s
}

func exactly(n int64) Size { return Size{Bytes: n, Exact: true} }

func atMost(n int64) Size { return Size{Bytes: n} }

// between returns the size of the integers from first to last.
func between(first, last int64, desc bool) Size {
	least, most := IntKeyBytesIn(first, last, desc)
	return Size{Bytes: most, Exact: least == most}
}

func (c KeyColumn) notNull() Size {
	switch c.Kind {
	case KeyInt:
		if c.Ints != nil {
			return between(c.Ints.First, c.Ints.Last, c.Desc)
		}
		switch c.Width {
		case 2:
			return between(math.MinInt16, math.MaxInt16, c.Desc)
		case 4:
			return between(math.MinInt32, math.MaxInt32, c.Desc)
		}
		return between(math.MinInt64, math.MaxInt64, c.Desc)
	case KeyBool:
		return exactly(BoolKeyBytes(c.Desc))
	case KeyDate:
		return atMost(9) // infinity; years 1 to 9999 take 1 to 4
	case KeyTime:
		return between(0, 24*3600*1e6, c.Desc)
	case KeyTimeTZ:
		return atMost(1 + timeTZInstant + timeTZOffset)
	case KeyTimestamp:
		return atMost(1 + timestampSeconds + timestampNanos)
	case KeyInterval:
		return atMost(1 + intervalNanos + intervalMonths + intervalDays)
	case KeyFloat:
		return atMost(9) // zero and NaN take 1
	case KeyDecimal:
		if c.Width > 0 {
			return atMost(1 + decimalExponent(c.Width) + (c.Width/2 + 1) + 1)
		}
		// At least two bytes more than the text ("1" takes three), whose digits take half a byte.
		return Size{Bytes: 1 + 1 + 1, PerByte: 1}
	case KeyString:
		s := Size{Bytes: 3, PerByte: 1}
		if c.Width > 0 && c.Width <= 10 && !c.Computed {
			// For short strings the type is the better bound: at most four bytes per character.
			return atMost(3 + 4*c.Width)
		}
		return s
	case KeyBytes:
		return Size{Bytes: 3, PerByte: 1}
	case KeyCollated:
		return Size{Bytes: 3 + collatedFixed, PerByte: collatedPerByte}
	case KeyUUID:
		return atMost(3 + 2*uuidBytes)
	case KeyINet:
		return atMost(3 + inet6Bytes + inet6Bytes - 1) // ::/0; an IPv4 address takes 10 to 15
	case KeyEnum:
		// The physical representation of an enum that was created at once is one byte up to
		// about 250 labels. Labels inserted later lengthen it by one byte per seven or so
		// (GenByteStringBetween of pkg/sql/enum).
		return atMost(3 + 2*(1+(max(c.Width, 1)-1)/7))
	case KeyBit:
		return c.bits()
	case KeyOID:
		return between(0, math.MaxUint32, c.Desc)
	case KeyArray:
		// An element takes at least one byte of the record, plus a comma.
		elem := KeyColumn{Kind: c.Elem, Desc: c.Desc}.notNull()
		return Size{Bytes: 2 + elem.Bytes, PerByte: elem.PerByte + (elem.Bytes+1)/2, Guess: elem.Guess}
	case KeyBox2D:
		return atMost(1 + 4*9)
	case KeyGeo:
		// Marker, curve position, shape and bounding box. Hexadecimal text is twice as long as
		// the shape; "POINT(1 1)" is shorter than its 21 bytes.
		return Size{Bytes: 1 + 8 + 64, PerByte: 8}
	case KeyJSON:
		return Size{Bytes: 16, PerByte: 8}
	}
	return Size{Bytes: guessedTextBytes, PerByte: 2, Guess: true}
}

// Sizes of the parts of values.
const (
	uuidBytes  = 16
	inet4Bytes = 2 + 4 // family, length of the mask, address
	inet6Bytes = 2 + 16

	// Offsets are at most 15:59:59 (pkg/util/timetz): below 2^16 seconds. The instant stays below
	// 2^40 microseconds.
	timeTZInstant, timeTZOffset = 6, 3

	// Years -4713 to 294276 are below 2^48 in seconds; the nanoseconds of whole microseconds are
	// below 2^30.
	timestampSeconds, timestampNanos = 7, 5

	// Intervals whose months, days or sum overflow an int64 of nanoseconds are refused in keys
	// (Encode of pkg/util/duration): 3 558 months are below 2^16, 106 751 days below 2^24.
	intervalNanos, intervalMonths, intervalDays = 9, 3, 4
)

// decimalExponent returns the bytes of the exponent of a DECIMAL of at most width digits. The
// exponent, of 100, is between minus and plus half the width. Those of 0 to 10 take no byte. Below
// 0 there are fewer digits, by as much.
func decimalExponent(width int64) int64 {
	switch {
	case width <= 20:
		return 1
	case width <= 510:
		return 2
	}
	return 3
}

// bits returns the size of a BIT or VARBIT.
func (c KeyColumn) bits() Size {
	tail := int64(1) // the number of bits in the last word, 0 to 64
	if c.Desc {
		tail = 2
	}
	if c.Width > 0 {
		return atMost(1 + 9*((c.Width+63)/64) + 1 + tail)
	}
	return Size{Bytes: 1 + 9 + 1 + tail, PerByte: 1}
}

// A collation key holds two bytes of primary weight (three for ideographs), two of secondary and one
// of tertiary weight for each collation element, and two separators. One rune of at least two bytes
// may become 18 elements (golang.org/x/text/collate, which CockroachDB uses). Zero bytes are doubled
// in the key.
const (
	collatedFixed   = 8
	collatedPerByte = 60
)

// composite reports whether a value of this kind may be stored in the row's value in addition
// to its key, because the key loses information: -0, 1.0 against 1.00, the text of a collation
// key.
func (c KeyColumn) composite() bool {
	k := c.Kind
	if k == KeyArray {
		k = c.Elem
	}
	return k == KeyFloat || k == KeyDecimal || k == KeyCollated || k == KeyOther || k == KeyJSON
}
