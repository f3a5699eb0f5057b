package anytable

import (
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"bulkload/loader/dataset"
)

// This file holds the texts of values: one function for each form.

// bytesText returns the appender of n bytes: those of the index, and then random ones.
func bytesText(n int) appender {
	return func(buf []byte, i, random uint64) []byte {
		buf = append(buf, `\x`...)
		for k := 0; k < n; k++ {
			buf = hex.AppendEncode(buf, []byte{byte(i >> (8 * uint(k%8)))})
			if k%8 == 7 {
				i = dataset.Mix(random + uint64(k))
			}
		}
		return buf
	}
}

// bitsText returns the appender of the index as n bits.
func bitsText(n int) appender {
	return func(buf []byte, i, _ uint64) []byte {
		for k := n - 1; k >= 0; k-- {
			buf = append(buf, '0'+byte(i>>uint(k%64)&1))
		}
		return buf
	}
}

// macText returns the appender of the index as a locally administered MAC address of n bytes.
func macText(n int) appender {
	return func(buf []byte, i, _ uint64) []byte {
		for k := n - 1; k >= 0; k-- {
			octet := byte(i >> (8 * uint(k)))
			if k == n-1 {
				octet = 2 // locally administered
			}
			buf = hex.AppendEncode(buf, []byte{octet})
			if k > 0 {
				buf = append(buf, ':')
			}
		}
		return buf
	}
}

// vectorText returns the appender of vectors of n dimensions.
func vectorText(n int) appender {
	return func(buf []byte, i, _ uint64) []byte {
		buf = append(buf, '[')
		for k := range n {
			if k > 0 {
				buf = append(buf, ',')
			}
			buf = append(buf, "0."...)
			buf = strconv.AppendUint(buf, 1+dataset.Below(dataset.Random(i, uint64(k)), 8), 10)
		}
		return append(buf, ']')
	}
}

// rangeText returns the appender of ranges from a value of inner to the next one.
func rangeText(inner appender) appender {
	return func(buf []byte, i, random uint64) []byte {
		buf = inner(append(buf, `["`...), i, random)
		return append(inner(append(buf, `","`...), i+1, random), `")`...)
	}
}

// arrayText returns the appender of arrays of up to n values of inner, which has size values; zero
// is any number.
func arrayText(inner appender, n, size uint64) appender {
	return func(buf []byte, _, random uint64) []byte {
		buf = append(buf, '{')
		for k := range 1 + dataset.Below(random, n) {
			if k > 0 {
				buf = append(buf, ',')
			}
			buf = append(buf, '"')
			r := dataset.Random(random, k)
			at := r >> 1
			if size > 0 {
				at = dataset.Below(r, size)
			}
			from := len(buf)
			buf = escapeElement(inner(buf, at, r), from)
			buf = append(buf, '"')
		}
		return append(buf, '}')
	}
}

// escapeElement puts a backslash in front of quotes and backslashes of an array's element, which
// begins at from.
func escapeElement(buf []byte, from int) []byte {
	for i := from; i < len(buf); i++ {
		if buf[i] == '"' || buf[i] == '\\' {
			buf = append(buf, 0)
			copy(buf[i+1:], buf[i:])
			buf[i] = '\\'
			i++
		}
	}
	return buf
}

// pointText replaces each % of a template by a number between -80 and 80.
func pointText(template string) appender {
	return func(buf []byte, i, _ uint64) []byte {
		k := uint64(0)
		for _, c := range []byte(template) {
			if c != '%' {
				buf = append(buf, c)
				continue
			}
			buf = appendDecimal(buf, int64(dataset.Below(dataset.Random(i, k), 16000))-8000, 2)
			k++
		}
		return buf
	}
}

// appendDecimal appends n with a decimal point in front of its last digits.
func appendDecimal(buf []byte, n int64, scale int) []byte {
	if n < 0 {
		buf, n = append(buf, '-'), -n
	}
	unit := powersOfTen[scale]
	buf = append(strconv.AppendInt(buf, n/unit, 10), '.')
	for part := n % unit; scale > 0; scale-- {
		unit /= 10
		buf = append(buf, '0'+byte(part/unit))
		part %= unit
	}
	return buf
}

// maxScale is the largest number of digits behind the point.
const maxScale = 18

var powersOfTen = func() (p [maxScale + 1]int64) {
	p[0] = 1
	for i := 1; i <= maxScale; i++ {
		p[i] = 10 * p[i-1]
	}
	return p
}()

// appendDate appends a day since 1970 as YYYY-MM-DD.
func appendDate(buf []byte, day int64) []byte {
	if day < firstDay || day > lastDay {
		return time.Unix(day*86400, 0).UTC().AppendFormat(buf, "2006-01-02")
	}
	// Civil from days (Hinnant: chrono-Compatible Low-Level Date Algorithms, 2013).
	z := day + 719468
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	y := yoe + era*400
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d := doy - (153*mp+2)/5 + 1
	m := mp + 3
	if m > 12 {
		m, y = m-12, y+1
	}
	buf = append(buf, '0'+byte(y/1000), '0'+byte(y/100%10), '0'+byte(y/10%10), '0'+byte(y%10), '-')
	return append(buf, '0'+byte(m/10), '0'+byte(m%10), '-', '0'+byte(d/10), '0'+byte(d%10))
}

// appendClock appends a second of a day as HH:MM:SS.
func appendClock(buf []byte, s int64) []byte {
	h, m := s/3600, s/60%60
	s %= 60
	return append(buf, '0'+byte(h/10), '0'+byte(h%10), ':', '0'+byte(m/10), '0'+byte(m%10), ':', '0'+byte(s/10), '0'+byte(s%10))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// appendUUID appends a random UUID (RFC 9562, version 4) of two numbers.
func appendUUID(buf []byte, a, b uint64) []byte {
	var u [16]byte
	for k := range 8 {
		u[k], u[8+k] = byte(a>>(56-8*k)), byte(b>>(56-8*k))
	}
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	at := len(buf)
	buf = append(buf, "00000000-0000-0000-0000-000000000000"...)
	t := buf[at:]
	hex.Encode(t[0:8], u[0:4])
	hex.Encode(t[9:13], u[4:6])
	hex.Encode(t[14:18], u[6:8])
	hex.Encode(t[19:23], u[8:10])
	hex.Encode(t[24:36], u[10:16])
	return buf
}

// appendAddress appends an address of 10.0.0.0/8, or a network of 24 bits there.
func appendAddress(buf []byte, i uint64, network bool) []byte {
	buf = append(buf, "10."...)
	if network {
		buf = strconv.AppendUint(buf, i>>8&0xff, 10)
		buf = strconv.AppendUint(append(buf, '.'), i&0xff, 10)
		return append(buf, ".0/24"...)
	}
	buf = strconv.AppendUint(buf, i>>16&0xff, 10)
	buf = strconv.AppendUint(append(buf, '.'), i>>8&0xff, 10)
	return strconv.AppendUint(append(buf, '.'), i&0xff, 10)
}

// appendJSON appends a small object.
func appendJSON(buf []byte, i, random uint64) []byte {
	buf = append(buf, `{"id": `...)
	buf = strconv.AppendUint(buf, i&(1<<52-1), 10)
	buf = append(append(buf, `, "tag": "`...), words[random%uint64(len(words))]...)
	buf = append(buf, `", "active": `...)
	buf = strconv.AppendBool(buf, random>>40&1 == 1)
	return append(buf, '}')
}

// cut cuts the text behind from to a number of characters.
func cut(buf []byte, from, maxLen int) []byte {
	if maxLen <= 0 || len(buf)-from <= maxLen {
		return buf
	}
	if utf8.RuneCount(buf[from:]) <= maxLen {
		return buf
	}
	at := from
	for range maxLen {
		_, n := utf8.DecodeRune(buf[at:])
		at += n
	}
	return buf[:at]
}

// Days between which appendDate computes: 0001-01-01 to 9999-12-31.
const (
	firstDay = -719162
	lastDay  = 2932896
)
