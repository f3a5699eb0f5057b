// Package keysize computes the bytes that a row adds to the keys of a CockroachDB transaction,
// from a table's schema, its indexes and the values of their columns. It reads no schema
// itself; package server describes live tables.
package keysize

import (
	"bytes"
	"math"
	"strings"
)

// The functions of this file and of keysize_value.go return the size of one value in a CockroachDB
// key, in bytes, as kv.transaction.max_intents_bytes counts it. They are pure: no state, safe for
// concurrent use, and without errors unless documented.
//
// Source of all of them: CockroachDB v21.1.5, EncodeTableKey in
// pkg/sql/rowenc/column_type_encoding.go, and the Encode… function of pkg/util/encoding that it
// calls for the type. desc means a column declared DESC, which changes the size of several types.

// NullKeyBytes is the size of NULL in a key, in either direction.
const NullKeyBytes = 1

// maxSmallUvarint is the largest number with a key of a single byte: intSmall of
// pkg/util/encoding/encoding.go.
const maxSmallUvarint = 109

// UintKeyBytes returns the size of an unsigned number in an ascending key
// (EncodeUvarintAscending). Table ids, index ids, column families and tenants are encoded this
// way.
func UintKeyBytes(v uint64) int64 {
	if v <= maxSmallUvarint {
		return 1
	}
	return 1 + uintBytes(v)
}

// uintDescKeyBytes returns the size of an unsigned number in a descending key
// (EncodeUvarintDescending). Only zero takes a single byte.
func uintDescKeyBytes(v uint64) int64 {
	if v == 0 {
		return 1
	}
	return 1 + uintBytes(v)
}

// uintBytes returns the number of bytes of v without leading zero bytes, at least 1.
func uintBytes(v uint64) int64 {
	n := int64(1)
	for v > 0xff {
		v >>= 8
		n++
	}
	return n
}

// IntKeyBytes returns the size of an INT in an ascending key (EncodeVarintAscending): one byte
// from 0 to 109, otherwise one more than the bytes of its absolute value.
func IntKeyBytes(v int64) int64 {
	if v < 0 {
		// The bounds are -0xff, -0xffff, …: those of the absolute value. As a uint64 it is
		// correct for the smallest int64 too.
		return 1 + uintBytes(-uint64(v))
	}
	return UintKeyBytes(uint64(v))
}

// IntDescKeyBytes returns the size of an INT in a descending key (EncodeVarintDescending, which
// encodes the complement). There no number from 0 on takes a single byte.
func IntDescKeyBytes(v int64) int64 { return IntKeyBytes(^v) }

// intKeyBytes is IntKeyBytes or IntDescKeyBytes.
func intKeyBytes(v int64, desc bool) int64 {
	if desc {
		v = ^v
	}
	return IntKeyBytes(v)
}

// An intStep is a change in the size of ascending integer keys: numbers from first up to the
// next step take bytes bytes.
type intStep struct {
	first int64
	bytes int64
}

// intSteps are the steps in ascending order.
var intSteps = func() []intStep {
	steps := []intStep{{math.MinInt64, 9}}
	for n := int64(7); n >= 1; n-- {
		steps = append(steps, intStep{-(1<<(8*n) - 1), 1 + n})
	}
	steps = append(steps, intStep{0, 1}, intStep{maxSmallUvarint + 1, 2})
	for n := int64(2); n <= 8; n++ {
		steps = append(steps, intStep{1 << (8 * (n - 1)), 1 + n})
	}
	return steps
}()

// SumIntKeyBytes returns the exact total size of count consecutive INT keys, starting at first.
// count is at most 2^59, and first+count must not overflow. The result is zero if count is not
// positive.
func SumIntKeyBytes(first, count int64, desc bool) int64 {
	if count <= 0 {
		return 0
	}
	last := first + count - 1
	if desc { // the complement reverses the order
		first, last = ^last, ^first
	}
	var sum int64
	for i, s := range intSteps {
		from, to := s.first, int64(math.MaxInt64)
		if i+1 < len(intSteps) {
			to = intSteps[i+1].first - 1
		}
		from, to = max(from, first), min(to, last)
		if from <= to {
			sum += (to - from + 1) * s.bytes
		}
	}
	return sum
}

// IntKeyBytesIn returns the smallest and the largest size of an INT key from first to last,
// both inclusive.
func IntKeyBytesIn(first, last int64, desc bool) (least, most int64) {
	if desc {
		first, last = ^last, ^first
	}
	// Sizes decrease towards zero and increase after it. So the largest size is at an end, and
	// the smallest at the number nearest to zero.
	most = max(IntKeyBytes(first), IntKeyBytes(last))
	return IntKeyBytes(min(max(first, 0), last)), most
}

// StringKeyBytes returns the size of a STRING, VARCHAR or CHAR value in a key, in either
// direction: a marker, the bytes with each 0x00 doubled, and a terminator of two bytes
// (EncodeStringAscending and its complement). For a collated string pass the collation key, not
// the text.
func StringKeyBytes(s string) int64 { return int64(3 + len(s) + strings.Count(s, "\x00")) }

// BytesKeyBytes returns the size of a BYTES value in a key, in either direction, which is that
// of StringKeyBytes. For an ENUM value pass its physical representation.
func BytesKeyBytes(b []byte) int64 { return int64(3 + len(b) + bytes.Count(b, []byte{0})) }

// FloatKeyBytes returns the size of a FLOAT in a key, in either direction
// (EncodeFloatAscending): 1 for zero and NaN, otherwise 9.
func FloatKeyBytes(f float64) int64 {
	if f == 0 || math.IsNaN(f) {
		return 1
	}
	return 9
}

// BoolKeyBytes returns the size of a BOOL in a key, which is encoded as the INT 0 or 1.
func BoolKeyBytes(desc bool) int64 { return intKeyBytes(0, desc) }

// FamilySuffixBytes returns the size of the end of a key, which identifies the column family:
// one byte for family 0, otherwise the family's number and its length (MakeFamilyKey of
// pkg/keys/keys.go).
func FamilySuffixBytes(family int) int64 {
	if family == 0 {
		return 1
	}
	return UintKeyBytes(uint64(family)) + 1
}

// PrefixBytes returns the size of the start of every key of an index: the tenant (none for
// tenants 0 and 1, the system tenant), the table's id and the index's id (MakeTenantPrefix of
// pkg/keys/sql.go; IndexPrefix).
func PrefixBytes(tenantID uint64, tableID, indexID int64) int64 {
	n := UintKeyBytes(uint64(tableID)) + UintKeyBytes(uint64(indexID))
	if tenantID > 1 {
		n += 1 + UintKeyBytes(tenantID)
	}
	return n
}
