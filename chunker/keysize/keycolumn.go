package keysize

import "math"

// A KeyKind says how CockroachDB encodes a column's values in a key. Several SQL
// types share one kind.
type KeyKind int

// The kinds of key column, with the SQL types that have them.
const (
	KeyOther     KeyKind = iota // a type that is not known: its size is a guess
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

// A KeyColumn is a column of an index, with what is known of the size of its
// values.
type KeyColumn struct {
	Name     string // as in the table; the expression where it is one
	Kind     KeyKind
	Elem     KeyKind // of an array's elements
	Desc     bool
	Nullable bool
	// Width is the declared size: bytes of an INT (2, 4 or 8), digits of a
	// DECIMAL, characters of a VARCHAR, bits of a BIT, labels of an ENUM. Zero
	// is the type without one.
	Width int64
	// Ints says that every value lies in this range, for KeyInt; nil is the
	// whole range of the type.
	Ints *IntRange
	// Computed says that the value is not text of the row's record, but the
	// result of an expression or a default, so that its length does not follow
	// from that of the record.
	Computed bool
}

// An IntRange is the integers from First to Last, both included.
type IntRange struct{ First, Last int64 }

// A Size is how many bytes something takes at most in a key: Bytes, and PerByte
// more for each byte of the row's record, where the value is text.
type Size struct {
	Bytes   int64
	PerByte int64
	// Exact says that every row takes exactly Bytes.
	Exact bool
	// Guess says that it is not even a bound: the length of an expression's
	// value, or of a type that is not known, does not follow from anything that
	// is known before the row is in.
	Guess bool
}

// For returns the bytes for a record of recordBytes bytes.
func (s Size) For(recordBytes int64) int64 { return s.Bytes + s.PerByte*recordBytes }

// Bytes taken as the size of the value of a text expression, where nothing says
// how long it is: as long as a hash in hexadecimal.
const guessedTextBytes = 64

// Size returns how many bytes the column takes in a key. Types of one size give
// that size exactly; for the others it is the most a value can take: the number
// furthest from zero, an address full of zero bytes, which take two bytes each.
// Text is bounded by the length of the row's record, in the database's own text
// form, which is taken to hold no byte 0x00 (where it does, StringKeyBytes of the
// value is larger by one for each).
func (c KeyColumn) Size() Size {
	s := c.notNull()
	if c.Nullable && s != (Size{Bytes: NullKeyBytes, Exact: true}) {
		s.Exact = false
	}
	if c.Computed && s.PerByte > 0 {
		// upper() makes at most three bytes of one; other functions may do
		// anything.
		s.Bytes += guessedTextBytes
		s.PerByte *= 3
		s.Guess = true
	}
	return s
}

func exactly(n int64) Size { return Size{Bytes: n, Exact: true} }

func atMost(n int64) Size { return Size{Bytes: n} }

// between gives the size of the integers from first to last.
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
		// The offset is at most 15:59:59 (pkg/util/timetz), so the instant
		// stays below 2^40 and the offset below 2^16.
		return atMost(1 + 6 + 3)
	case KeyTimestamp:
		// Years -4713 to 294276 are seconds below 2^48; the nanoseconds of a
		// microsecond below 2^30.
		return atMost(1 + 7 + 5)
	case KeyInterval:
		return atMost(1 + 9 + 9 + 9)
	case KeyFloat:
		return atMost(9) // but for zero and NaN
	case KeyDecimal:
		if c.Width > 0 {
			// The exponent stays within the digits: one byte of tag and
			// at most three of exponent up to DECIMAL(16383).
			return atMost(1 + 3 + (c.Width/2 + 1) + 1)
		}
		return Size{Bytes: 1 + 5 + 2 + 1, PerByte: 1}
	case KeyString:
		s := Size{Bytes: 3, PerByte: 1}
		if c.Width > 0 && c.Width <= 10 && !c.Computed {
			// Short ones are better bounded by their type: four bytes a
			// character at most.
			return atMost(3 + 4*c.Width)
		}
		return s
	case KeyBytes:
		return Size{Bytes: 3, PerByte: 1}
	case KeyCollated:
		return Size{Bytes: 3 + collatedFixed, PerByte: collatedPerByte}
	case KeyUUID:
		return atMost(3 + 2*16)
	case KeyINet:
		return atMost(3 + 18 + 17) // ::/0; an IPv4 address takes 10 to 15
	case KeyEnum:
		// The physical representation of an enum made at once is one byte up
		// to some 250 labels; labels added in between make it longer by a
		// byte for about seven (GenByteStringBetween of pkg/sql/enum).
		return atMost(3 + 2*(1+(max(c.Width, 1)-1)/7))
	case KeyBit:
		return c.bits()
	case KeyOID:
		return between(0, math.MaxUint32, c.Desc)
	case KeyArray:
		// An element takes at least one byte of the record and a comma.
		elem := KeyColumn{Kind: c.Elem, Desc: c.Desc}.notNull()
		return Size{Bytes: 2 + elem.Bytes, PerByte: elem.PerByte + (elem.Bytes+1)/2, Guess: elem.Guess}
	case KeyBox2D:
		return atMost(1 + 4*9)
	case KeyGeo:
		// Marker, curve position, shape and bounding box: hexadecimal text is
		// twice as long as the shape, "POINT(1 1)" is shorter than its 21.
		return Size{Bytes: 1 + 8 + 64, PerByte: 8}
	case KeyJSON:
		return Size{Bytes: 16, PerByte: 8}
	}
	return Size{Bytes: guessedTextBytes, PerByte: 2, Guess: true}
}

// bits is the size of a BIT or VARBIT.
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

// A collation key holds two bytes of primary weight (three for ideographs), two
// of secondary and one of tertiary weight for each collation element, and two
// separators; one rune of at least two bytes may become 18 elements
// (golang.org/x/text/collate, which CockroachDB uses). Bytes of value zero take
// two in the key.
const (
	collatedFixed   = 8
	collatedPerByte = 60
)

// composite reports whether a value of the kind may be kept in the row's value as
// well as in its key, because the key does not say all of it: -0, 1.0 against
// 1.00, the text of a collation key.
func (c KeyColumn) composite() bool {
	k := c.Kind
	if k == KeyArray {
		k = c.Elem
	}
	return k == KeyFloat || k == KeyDecimal || k == KeyCollated || k == KeyOther || k == KeyJSON
}
