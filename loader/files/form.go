package files

import (
	"bytes"
	"math/bits"
	"strconv"
	"time"

	"bulkload/loader/server"
)

// A Form is a set of notations of a text. A notation belongs to a type of the server that
// returns the same value: every digit, sign and leading zero of a number, the same instant of a
// time.
type Form uint16

// The forms, the narrowest first. A number's point and exponent are tracked as well: they do
// not select a type, but exclude some.
const (
	boolForm    Form = 1 << iota // true or false in any case
	intForm                      // of 64 bits, as the server writes it
	numberForm                   // digits with a point or an exponent, or too long for intForm
	dateForm                     // 2006-01-02
	timeForm                     // a date and a time of day
	instantForm                  // the same with an offset, or Z
	uuidForm                     // in small letters, as the server writes it

	allForms = uuidForm<<1 - 1
)

// types are the types of forms, by server, in the order of trial.
var types = []struct {
	form                Form
	cockroach, postgres string
}{
	{boolForm, "BOOL", "BOOLEAN"},
	{intForm, "INT8", "BIGINT"},
	{numberForm, "DECIMAL", "NUMERIC"},
	{dateForm, "DATE", "DATE"},
	{timeForm, "TIMESTAMP", "TIMESTAMP"},
	{instantForm, "TIMESTAMPTZ", "TIMESTAMPTZ"},
	{uuidForm, "UUID", "UUID"},
}

// sqlType returns the type of a column whose values all have one form.
func (f Form) sqlType(p server.Product) string {
	for _, t := range types {
		if f&t.form != 0 {
			if p == server.CockroachDB {
				return t.cockroach
			}
			return t.postgres
		}
	}
	if p == server.CockroachDB {
		return "STRING"
	}
	return "TEXT"
}

// mostDigits bounds a number's digits, and mostExponent its exponent: longer numbers are text,
// whatever a server's own limit is (PostgreSQL's NUMERIC has 131072 digits, and 16383 behind
// the point).
const (
	mostDigits   = 300
	mostExponent = 300
)

// textForm returns the forms of a text; zero is plain text.
func textForm(b []byte) Form {
	f, _ := formOf(b)
	return f
}

// A number describes a text of numberForm.
type number struct{ point, exponent bool }

func formOf(b []byte) (Form, number) {
	if len(b) == 0 || len(b) > mostDigits+2 {
		return 0, number{}
	}
	switch c := b[0]; {
	case c >= '0' && c <= '9' || c == '-' || c == '.':
		if f, n := numberOf(b); f != 0 {
			return f, n
		}
		if len(b) >= 10 && b[4] == '-' {
			return momentOf(b), number{}
		}
	case c == 't' || c == 'T':
		if len(b) == 4 && bytes.EqualFold(b, []byte("true")) {
			return boolForm, number{}
		}
	case c == 'f' || c == 'F':
		if len(b) == 5 && bytes.EqualFold(b, []byte("false")) {
			return boolForm, number{}
		}
	}
	if len(b) == 36 && isUUID(b) {
		return uuidForm, number{}
	}
	return 0, number{}
}

// numberOf returns the forms of a number. A number with a plus sign or a leading zero, or a
// negative zero, is text: the server returns 7 for +7 and for 007, and 0 for -0.
func numberOf(b []byte) (Form, number) {
	digits := b
	if digits[0] == '-' {
		digits = digits[1:]
	}
	whole, zero := 0, true
	for whole < len(digits) && digits[whole]-'0' <= 9 {
		zero = zero && digits[whole] == '0'
		whole++
	}
	if whole > 1 && digits[0] == '0' {
		return 0, number{}
	}
	rest := digits[whole:]
	if len(rest) == 0 {
		switch {
		case whole == 0, zero && len(digits) < len(b):
			return 0, number{}
		case len(b) < 19:
			return intForm | numberForm, number{}
		}
		if _, err := strconv.ParseInt(string(b), 10, 64); err == nil {
			return intForm | numberForm, number{}
		}
		return numberForm, number{}
	}
	var n number
	if rest[0] == '.' {
		n.point = true
		k := 1
		for k < len(rest) && rest[k]-'0' <= 9 {
			zero = zero && rest[k] == '0'
			k++
		}
		if whole == 0 && k == 1 {
			return 0, number{}
		}
		rest = rest[k:]
	} else if whole == 0 {
		return 0, number{}
	}
	if zero && len(digits) < len(b) {
		return 0, number{}
	}
	if len(rest) == 0 {
		return numberForm, n
	}
	// An exponent. Without a point it needs a sign: 12E4 is a part number.
	if rest[0] != 'e' && rest[0] != 'E' || len(rest) < 2 || zero {
		return 0, number{}
	}
	n.exponent = true
	exponent := rest[1:]
	if exponent[0] == '+' || exponent[0] == '-' {
		exponent = exponent[1:]
	} else if !n.point {
		return 0, number{}
	}
	for _, c := range exponent {
		if c-'0' > 9 {
			return 0, number{}
		}
	}
	if e, err := strconv.Atoi(string(exponent)); err != nil || e > mostExponent {
		return 0, number{}
	}
	return numberForm, n
}

// two returns the number of the two digits at the beginning of b, or 100 without two digits.
func two(b []byte) int {
	if len(b) < 2 || b[0]-'0' > 9 || b[1]-'0' > 9 {
		return 100
	}
	return int(b[0]-'0')*10 + int(b[1]-'0')
}

// momentOf returns the form of a date, or of a date with a time of day. The date must exist in
// the calendar.
func momentOf(b []byte) Form {
	century, year, month, day := two(b), two(b[2:]), two(b[5:]), two(b[8:])
	if century > 99 || year > 99 || b[4] != '-' || b[7] != '-' || month < 1 || month > 12 || day < 1 {
		return 0
	}
	// PostgreSQL has no year 0, and an offset may move year 1 into it.
	if y := century*100 + year; y < 2 || day > 28 && day > time.Date(y, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
		return 0
	}
	if len(b) == 10 {
		return dateForm
	}
	// The time of day: hours and minutes, optional seconds, optionally a fraction of up to six
	// digits.
	if len(b) < 16 || b[10] != ' ' && b[10] != 'T' || two(b[11:]) > 23 || b[13] != ':' || two(b[14:]) > 59 {
		return 0
	}
	b = b[16:]
	if len(b) >= 3 && b[0] == ':' && two(b[1:]) <= 59 {
		b = b[3:]
		if len(b) > 0 && b[0] == '.' {
			n := 1
			for n < len(b) && b[n]-'0' <= 9 {
				n++
			}
			if n < 2 || n > 7 {
				return 0
			}
			b = b[n:]
		}
	}
	switch {
	case len(b) == 0:
		return timeForm
	case len(b) == 1 && b[0] == 'Z':
		return instantForm
	case b[0] != '+' && b[0] != '-' || two(b[1:]) > 14:
		return 0
	case len(b) == 3, len(b) == 5 && two(b[3:]) <= 59, len(b) == 6 && b[3] == ':' && two(b[4:]) <= 59:
		return instantForm
	}
	return 0
}

func isUUID(b []byte) bool {
	for i, c := range b {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if c-'0' > 9 && c-'a' > 5 {
				return false
			}
		}
	}
	return true
}

// A Column describes the values of one column.
type Column struct {
	forms Form
	// any: there is a value. point: a number has a point. bare: a number has an exponent but no
	// point, and is text unless other numbers have points.
	any, point, bare bool
}

func newColumns(n int) []Column {
	list := make([]Column, n)
	for i := range list {
		list[i].forms = allForms
	}
	return list
}

// add includes one more value.
func (c *Column) add(text []byte) {
	c.any = true
	if c.forms == 0 {
		return
	}
	f, n := formOf(text)
	c.forms &= f
	c.point = c.point || n.point
	c.bare = c.bare || n.exponent && !n.point
}

// merge includes the values of another Column.
func (c *Column) merge(x Column) {
	c.forms &= x.forms
	c.any, c.point, c.bare = c.any || x.any, c.point || x.point, c.bare || x.bare
}

// form returns the narrowest form of all values; zero is text.
func (c *Column) form() Form {
	switch {
	case !c.any || c.forms == 0, c.forms&numberForm != 0 && c.bare && !c.point:
		return 0
	}
	return 1 << bits.TrailingZeros16(uint16(c.forms))
}
