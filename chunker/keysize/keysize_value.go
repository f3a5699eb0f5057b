package keysize

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// DateKeyBytes returns the size of a DATE in a key, encoded as the INT of days since
// 1970-01-01. The dates infinity and -infinity are the largest and the smallest int64
// (UnixEpochDays of pkg/util/timeutil/pgdate).
func DateKeyBytes(days int64, desc bool) int64 { return intKeyBytes(days, desc) }

// TimeKeyBytes returns the size of a TIME in a key, encoded as the INT of microseconds since
// midnight.
func TimeKeyBytes(micros int64, desc bool) int64 { return intKeyBytes(micros, desc) }

// TimeTZKeyBytes returns the size of a TIMETZ in a key (EncodeTimeTZAscending). micros is the
// local time since midnight in microseconds. westSeconds is the zone's offset in seconds,
// positive west of Greenwich: 8*3600 for -08:00.
func TimeTZKeyBytes(micros int64, westSeconds int32, desc bool) int64 {
	return 1 + intKeyBytes(micros+int64(westSeconds)*1e6, desc) + intKeyBytes(int64(westSeconds), desc)
}

// TimestampKeyBytes returns the size of a TIMESTAMP or TIMESTAMPTZ in a key
// (EncodeTimeAscending): seconds since 1970-01-01 00:00 UTC, and the nanoseconds of the second.
// These are 0 to 999 999 000, since the types have microseconds.
func TimestampKeyBytes(unixSeconds, nanos int64, desc bool) int64 {
	return 1 + intKeyBytes(unixSeconds, desc) + intKeyBytes(nanos, desc)
}

// IntervalKeyBytes returns the size of an INTERVAL in a key (EncodeDurationAscending): the
// total in nanoseconds, with months of 30 days and days of 24 hours, then months and days.
func IntervalKeyBytes(months, days, nanos int64, desc bool) int64 {
	const day = 24 * 3600 * 1e9
	whole := months*30*day + days*day + nanos
	return 1 + intKeyBytes(whole, desc) + intKeyBytes(months, desc) + intKeyBytes(days, desc)
}

// UUIDKeyBytes returns the size of a UUID in a key, in either direction: 19, plus one for each
// byte 0x00.
func UUIDKeyBytes(u [16]byte) int64 { return BytesKeyBytes(u[:]) }

// INetKeyBytes returns the size of an INET in a key, in either direction. It is the size of the
// bytes family (0 or 1), mask length and address (ToBuffer of pkg/util/ipaddr/ipaddr.go).
func INetKeyBytes(p netip.Prefix) int64 {
	family := byte(1)
	if p.Addr().Is4() {
		family = 0
	}
	return BytesKeyBytes(append([]byte{family, byte(p.Bits())}, p.Addr().AsSlice()...))
}

// BitKeyBytes returns the size of a BIT or VARBIT value in a key (EncodeBitArrayAscending):
// words of 64 bits, filled from the left and each encoded as a number, a terminator, and the
// number of bits used in the last word. bits consists of the characters 0 and 1.
func BitKeyBytes(bits string, desc bool) int64 {
	size := UintKeyBytes
	if desc {
		size = uintDescKeyBytes
	}
	n, last := int64(2), 0
	for len(bits) > 0 {
		last = min(len(bits), 64)
		var word uint64
		for i := range last {
			if bits[i] == '1' {
				word |= 1 << (63 - i)
			}
		}
		bits = bits[last:]
		n += size(word)
	}
	return n + size(uint64(last))
}

// ArrayKeyBytes returns the size of an array in a key, given the sizes of its elements in the
// same direction, with NullKeyBytes for a NULL (encodeArrayKey of
// pkg/sql/rowenc/column_type_encoding.go).
func ArrayKeyBytes(elements ...int64) int64 {
	n := int64(2)
	for _, e := range elements {
		n += e
	}
	return n
}

// DecimalKeyBytes returns the size of a DECIMAL in a key. text has the server's form: digits
// with an optional sign, point and exponent, or NaN, Infinity. Pass the stored value, already
// rounded to the column's scale. The error says that text is not a number.
//
// Source: pkg/util/encoding/decimal.go. The encoding is 0.M × 100^E, with one byte per two
// digits of M without trailing zeros. E needs bytes of its own only below 0 and above 10.
func DecimalKeyBytes(text string, desc bool) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	switch s {
	case "nan", "inf", "infinity":
		return 1, nil
	}
	s, expText, hasExp := strings.Cut(s, "e")
	exp := 0
	if hasExp {
		var err error
		if exp, err = strconv.Atoi(expText); err != nil {
			return 0, fmt.Errorf("size of decimal key: %q is no number", text)
		}
	}
	whole, frac, _ := strings.Cut(s, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("size of decimal key: %q is no number", text)
	}
	// The number is 0.digits × 10^e10 after removing the leading zeros.
	e10 := exp + len(whole)
	significant := strings.TrimLeft(digits, "0")
	e10 -= len(digits) - len(significant)
	n := len(strings.TrimRight(significant, "0"))
	if n == 0 {
		return 1, nil // zero, of either sign
	}
	e100 := e10 / 2
	if e10 >= 0 {
		e100 = (e10 + 1) / 2
	}
	if e100*2 != e10 {
		n++ // a leading zero completes the first pair of digits
	}
	size := int64(1 + (n+1)/2 + 1)
	falling := neg != desc // the order of absolute values is reversed
	switch {
	case e100 < 0 && falling, e100 > 10 && !falling:
		size += UintKeyBytes(uint64(max(e100, -e100)))
	case e100 < 0, e100 > 10:
		size += uintDescKeyBytes(uint64(max(e100, -e100)))
	}
	return size, nil
}
