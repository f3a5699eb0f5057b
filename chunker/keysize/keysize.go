// Package keysize computes how many bytes a row adds to the keys of a CockroachDB
// transaction: from a table's schema, its indexes and the values of their columns. It reads
// no schema itself; package server describes live tables.
package keysize

import (
	"bytes"
	"math"
	"strings"
)

// The functions of this file and of keysize_value.go give the number of bytes
// that one value takes in a CockroachDB key, which is what
// kv.transaction.max_intents_bytes counts. They are pure: no state, safe for
// concurrent use, no error unless they say so.
//
// Source of all of them: CockroachDB v21.1.5, EncodeTableKey in
// pkg/sql/rowenc/column_type_encoding.go, and the Encode… function of
// pkg/util/encoding that it calls for the type. desc means a column declared
// DESC, which for several types has another size.

// NullKeyBytes is the size of a NULL in a key, in either direction.
const NullKeyBytes = 1

// maxSmallUvarint is the largest number whose key is a single byte: intSmall of
// pkg/util/encoding/encoding.go.
const maxSmallUvarint = 109

// UintKeyBytes returns the size of an unsigned number in a key, ascending: table
// ids, index ids, column families and tenants are kept so
// (EncodeUvarintAscending).
func UintKeyBytes(v uint64) int64 {
	if v <= maxSmallUvarint {
		return 1
	}
	return 1 + uintBytes(v)
}

// uintDescKeyBytes is the size of an unsigned number, descending
// (EncodeUvarintDescending): only zero is a single byte.
func uintDescKeyBytes(v uint64) int64 {
	if v == 0 {
		return 1
	}
	return 1 + uintBytes(v)
}

// uintBytes returns how many bytes v needs, at least 1.
func uintBytes(v uint64) int64 {
	n := int64(1)
	for v > 0xff {
		v >>= 8
		n++
	}
	return n
}

// IntKeyBytes returns the size of an INT in an ascending key
// (EncodeVarintAscending): one byte from 0 to 109, else one more than the bytes
// of its absolute value.
func IntKeyBytes(v int64) int64 {
	if v < 0 {
		// The bounds are -0xff, -0xffff, …: those of the absolute value,
		// which for the smallest int64 still is right as a uint64.
		return 1 + uintBytes(-uint64(v))
	}
	return UintKeyBytes(uint64(v))
}

// IntDescKeyBytes returns the size of an INT in a descending key
// (EncodeVarintDescending, which encodes the complement): no number from 0 on is
// a single byte there.
func IntDescKeyBytes(v int64) int64 { return IntKeyBytes(^v) }

// intKeyBytes is IntKeyBytes or IntDescKeyBytes.
func intKeyBytes(v int64, desc bool) int64 {
	if desc {
		v = ^v
	}
	return IntKeyBytes(v)
}

// intStep is where the size of an ascending integer key changes: numbers from
// first on, up to the next step, take bytes bytes.
type intStep struct {
	first int64
	bytes int64
}

// intSteps are the steps in ascending order of the numbers.
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

// SumIntKeyBytes returns the size of count consecutive INT keys from first on,
// together and exactly. count is at most 2^59 and first+count does not overflow;
// a count that is not positive gives zero.
func SumIntKeyBytes(first, count int64, desc bool) int64 {
	if count <= 0 {
		return 0
	}
	last := first + count - 1
	if desc { // the complement turns the order round
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

// IntKeyBytesIn returns the smallest and the largest size of an INT key between
// first and last, both included.
func IntKeyBytesIn(first, last int64, desc bool) (least, most int64) {
	if desc {
		first, last = ^last, ^first
	}
	// Sizes fall towards zero and rise behind it, so the largest is at an end
	// and the smallest at the number nearest to zero.
	most = max(IntKeyBytes(first), IntKeyBytes(last))
	return IntKeyBytes(min(max(first, 0), last)), most
}

// StringKeyBytes returns the size of a STRING, VARCHAR or CHAR value in a key: a
// marker, the bytes with each 0x00 written as two, and two bytes of terminator
// (EncodeStringAscending, and its complement where descending: the same size).
// For a collated string it takes the collation key, not the text.
func StringKeyBytes(s string) int64 { return int64(3 + len(s) + strings.Count(s, "\x00")) }

// BytesKeyBytes returns the size of a BYTES value in a key, in either direction:
// that of StringKeyBytes. It also is the size of an ENUM value, given its
// physical representation.
func BytesKeyBytes(b []byte) int64 { return int64(3 + len(b) + bytes.Count(b, []byte{0})) }

// FloatKeyBytes returns the size of a FLOAT in a key, in either direction
// (EncodeFloatAscending): 9, and 1 for zero and NaN.
func FloatKeyBytes(f float64) int64 {
	if f == 0 || math.IsNaN(f) {
		return 1
	}
	return 9
}

// BoolKeyBytes returns the size of a BOOL in a key: it is kept as the INT 0 or 1.
func BoolKeyBytes(desc bool) int64 { return intKeyBytes(0, desc) }

// FamilySuffixBytes returns the size of the end of a key, which says the column
// family: one byte for family 0, else the number of the family and its length
// (MakeFamilyKey of pkg/keys/keys.go).
func FamilySuffixBytes(family int) int64 {
	if family == 0 {
		return 1
	}
	return UintKeyBytes(uint64(family)) + 1
}

// PrefixBytes returns the size of the start of every key of an index: the tenant
// (zero and the system tenant 1 have none), the table's id and the index' id
// (MakeTenantPrefix of pkg/keys/sql.go; IndexPrefix).
func PrefixBytes(tenantID uint64, tableID, indexID int64) int64 {
	n := UintKeyBytes(uint64(tableID)) + UintKeyBytes(uint64(indexID))
	if tenantID > 1 {
		n += 1 + UintKeyBytes(tenantID)
	}
	return n
}
