package rows

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"
)

// AppendCSV appends the rows of c as CSV without a header (RFC 4180): a text is quoted where it
// has to be, an empty one is "", and NULL is nothing.
func (c *Chunk) AppendCSV(buf []byte) []byte {
	for i := range c.n {
		for k := range c.cols {
			if k > 0 {
				buf = append(buf, ',')
			}
			switch v := &c.cols[k]; v.Kind {
			case Int:
				buf = strconv.AppendInt(buf, v.Ints[i], 10)
			case Float:
				buf = appendFloat(buf, v.Floats[i])
			default:
				if b, ok := v.Text(i); ok {
					buf = appendQuoted(buf, b)
				}
			}
		}
		buf = append(buf, '\n')
	}
	return buf
}

// appendQuoted appends a field of CSV. PostgreSQL's COPY takes a line of \. alone for the end.
func appendQuoted(buf, text []byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, "\",\n\r") && text[0] != ' ' && text[len(text)-1] != ' ' && string(text) != `\.` {
		return append(buf, text...)
	}
	buf = append(buf, '"')
	for _, b := range text {
		if b == '"' {
			buf = append(buf, '"')
		}
		buf = append(buf, b)
	}
	return append(buf, '"')
}

// AppendCopyText appends the rows of c as lines, and separates values by the given byte. With a
// tab the result is COPY's text format, which every version of CockroachDB reads correctly
// however the messages are split. A number's text
// gives the same bits back; it need not be the shortest such text.
func (c *Chunk) AppendCopyText(buf []byte, between byte) []byte {
	for i := range c.n {
		for k := range c.cols {
			if k > 0 {
				buf = append(buf, between)
			}
			switch v := &c.cols[k]; v.Kind {
			case Int:
				buf = strconv.AppendInt(buf, v.Ints[i], 10)
			case Float:
				buf = appendFloat(buf, v.Floats[i])
			default:
				if b, ok := v.Text(i); ok {
					buf = appendEscaped(buf, b)
				} else {
					buf = append(buf, `\N`...)
				}
			}
		}
		buf = append(buf, '\n')
	}
	return buf
}

// escapes maps each byte that would end a value or a line to its letter after a backslash
// (PostgreSQL documentation, COPY, "Text Format").
var escapes = [256]byte{'\\': '\\', '\n': 'n', '\r': 'r', '\t': 't'}

func appendEscaped(buf, text []byte) []byte {
	from := 0
	for i, b := range text {
		if e := escapes[b]; e != 0 {
			buf = append(append(buf, text[from:i]...), '\\', e)
			from = i + 1
		}
	}
	return append(buf, text[from:]...)
}

// fractionDigits maps the number of a float64's binary fraction digits to the number of decimal
// fraction digits that distinguish it from its neighbours. Half a unit of the last decimal
// digit is less than half the distance, 2^-bits, to the next number.
var fractionDigits = [...]int{43: 13, 44: 14, 45: 14, 46: 14, 47: 15, 48: 15, 49: 15, 50: 16, 51: 16, 52: 16}

var powersOfTen = [...]uint64{13: 1e13, 14: 1e14, 15: 1e15, 16: 1e16}

// appendFloat appends the decimal text of f. All but a thousandth of the coordinates of points
// lie between 1 and 1024. There integer arithmetic is exact and takes about half the time of
// the shortest text. Formatting floats is most of a client's work for an IMPORT.
func appendFloat(buf []byte, f float64) []byte {
	if !(f >= 1 && f < 1024) {
		return strconv.AppendFloat(buf, f, 'g', -1, 64)
	}
	b := math.Float64bits(f)
	shift := uint(1023 + 52 - b>>52)
	mantissa := b&(1<<52-1) | 1<<52
	whole, digits := mantissa>>shift, fractionDigits[shift]
	// The fraction in units of the last decimal digit, rounded.
	hi, lo := bits.Mul64(mantissa&(1<<shift-1), powersOfTen[digits])
	lo, carry := bits.Add64(lo, 1<<(shift-1), 0)
	part := (hi+carry)<<(64-shift) | lo>>shift
	if part == powersOfTen[digits] {
		whole, part = whole+1, 0
	}
	buf = strconv.AppendUint(buf, whole, 10)
	if part == 0 {
		return buf
	}
	at := len(buf)
	buf = strconv.AppendUint(buf, powersOfTen[digits]+part, 10) // with its leading zeros
	buf[at] = '.'
	for buf[len(buf)-1] == '0' {
		buf = buf[:len(buf)-1]
	}
	return buf
}
