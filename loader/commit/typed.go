package commit

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"

	"bulkload/loader/rows"
)

// The server's casts of texts take most of the time of an INSERT. Texts of common types that have
// only one reading are sent as binary values of their type. If a chunk has any other text in a
// column, it sends the whole column as text: the server casts it, or names the fault.

// A wire is a type whose texts can be sent as binary values.
type wire struct {
	array string // SQL array type of the parameter
	oid   uint32 // of the elements
	size  int    // bytes of a value
	// read appends the binary value of a text; ok is false for a text of another form.
	read func(buf, text []byte) (b []byte, ok bool)
}

var (
	intWire         = &wire{"INT8[]", pgtype.Int8OID, 8, appendInt}
	int4Wire        = &wire{"INT8[]", pgtype.Int8OID, 8, within(math.MaxInt32)}
	int2Wire        = &wire{"INT8[]", pgtype.Int8OID, 8, within(math.MaxInt16)}
	floatWire       = &wire{"FLOAT8[]", pgtype.Float8OID, 8, appendFloat}
	boolWire        = &wire{"BOOL[]", pgtype.BoolOID, 1, appendBool}
	uuidWire        = &wire{"UUID[]", pgtype.UUIDOID, 16, appendUUID}
	dateWire        = &wire{"DATE[]", pgtype.DateOID, 4, appendDate}
	timestampWire   = &wire{"TIMESTAMP[]", pgtype.TimestampOID, 8, appendTimestamp}
	timestamptzWire = &wire{"TIMESTAMPTZ[]", pgtype.TimestamptzOID, 8, appendTimestamptz}
)

// wires lists the wires by the names that CockroachDB and PostgreSQL give the types. Floats of 4
// bytes are not among them: the way over 8 bytes rounds twice.
var wires = map[string]*wire{
	"int8": intWire, "bigint": intWire, "int4": int4Wire, "integer": int4Wire, "int2": int2Wire, "smallint": int2Wire,
	"float8": floatWire, "double precision": floatWire,
	"bool": boolWire, "boolean": boolWire,
	"uuid": uuidWire,
	"date": dateWire,

	"timestamp": timestampWire, "timestamp without time zone": timestampWire,
	"timestamptz": timestamptzWire, "timestamp with time zone": timestamptzWire,
}

// wireOf returns the wire of a column; nil: its texts are sent as they are.
func wireOf(c rows.Column) *wire {
	if c.Kind != rows.Text {
		return nil
	}
	return wires[strings.ToLower(c.Type)]
}

// maxTyped bounds the columns that can be sent typed: a variant of the statement is a set of them.
const maxTyped = 64

// A variant is the set of columns that a statement sends typed, as bits.
type variant uint64

// typed returns the chunk's columns as parameters, typed where all texts of a column can be, and
// the variant of the statement that takes them. buffers is memory for the values, used again.
func (c *Committer) typed(chunk *rows.Chunk, buffers *[][]byte) ([]any, variant) {
	list := args(c.repeated, chunk)
	var sent variant
	var size int64
	for i, w := range c.wires[:min(len(c.wires), maxTyped)] {
		if w == nil {
			continue
		}
		for len(*buffers) <= i {
			*buffers = append(*buffers, nil)
		}
		b, ok := appendArray((*buffers)[i][:0], chunk.Col(i), w)
		(*buffers)[i] = b
		if ok {
			list[1+i] = binaryArray(b) // behind the exec mode
			sent |= 1 << i
			size += int64(len(b))
		} else {
			size += 4*int64(chunk.Len()) + int64(chunk.Col(i).TextBytes())
		}
	}
	// Short texts are shorter than their binary values. The plan reckons with texts.
	if c.MaxMessageBytes > 0 && size > c.MaxMessageBytes/2 {
		return args(c.repeated, chunk), 0
	}
	return list, sent
}

// statementFor returns the variant of a statement, sql.insert or sql.fill.
func (c *Committer) statementFor(sql string, v variant) string {
	if v == 0 {
		return sql
	}
	fill := sql == c.sql.fill && sql != c.sql.insert
	key := [2]uint64{uint64(v), 0}
	if fill {
		key[1] = 1
	}
	if text, ok := c.variants.Load(key); ok {
		return text.(string)
	}
	o := c.Options
	o.sends = make([]*wire, len(o.Columns))
	for i := range o.sends {
		if i < maxTyped && v&(1<<i) != 0 {
			o.sends[i] = c.wires[i]
		}
	}
	texts := compose(o, c.product)
	text := texts.insert
	if fill {
		text = texts.fill
	}
	c.variants.Store(key, text)
	c.composed.Add(1)
	return text
}

// A binaryArray is a parameter in the binary form of an array; see columnPlan.
type binaryArray []byte

// binaryPlan appends a binaryArray.
type binaryPlan struct{}

func (binaryPlan) Encode(value any, buf []byte) ([]byte, error) {
	return append(buf, value.(binaryArray)...), nil
}

// appendArray appends a column of texts as an array of typed values. ok is false if a text has
// another form.
func appendArray(buf []byte, v *rows.Values, w *wire) (b []byte, ok bool) {
	be := binary.BigEndian
	n := v.Len()
	buf = slices.Grow(buf, 20+n*(4+w.size))
	buf = be.AppendUint32(buf, 1)
	null := uint32(0)
	if v.HasNull() {
		null = 1
	}
	buf = be.AppendUint32(buf, null)
	buf = be.AppendUint32(buf, w.oid)
	buf = be.AppendUint32(buf, uint32(n))
	buf = be.AppendUint32(buf, 1)
	for i := range n {
		text, some := v.Text(i)
		if !some {
			buf = be.AppendUint32(buf, math.MaxUint32)
			continue
		}
		buf = be.AppendUint32(buf, uint32(w.size))
		if buf, ok = w.read(buf, text); !ok {
			return buf, false
		}
	}
	return buf, true
}

// appendInt takes the digits that the server writes itself: CockroachDB reads 010 as 8.
func appendInt(buf, text []byte) ([]byte, bool) {
	digits := text
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && (len(digits) > 1 || negative) {
		return buf, false
	}
	var n int64
	for _, c := range digits {
		if c-'0' > 9 {
			return buf, false
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return binary.BigEndian.AppendUint64(buf, uint64(n)), true
}

// within returns appendInt for a type whose largest number is limit. The server names the fault of
// others.
func within(limit int64) func(buf, text []byte) ([]byte, bool) {
	return func(buf, text []byte) ([]byte, bool) {
		b, ok := appendInt(buf, text)
		if !ok {
			return buf, false
		}
		n := int64(binary.BigEndian.Uint64(b[len(buf):]))
		return b, -limit-1 <= n && n <= limit
	}
}

// appendFloat takes decimal numbers, with or without an exponent, in the range of normal numbers:
// beyond it the servers differ.
func appendFloat(buf, text []byte) ([]byte, bool) {
	i, zero, digits := 0, true, 0
	if i < len(text) && text[i] == '-' {
		i++
	}
	pass := func() {
		for ; i < len(text) && text[i]-'0' <= 9; i++ {
			zero = zero && text[i] == '0'
			digits++
		}
	}
	pass()
	if digits == 0 {
		return buf, false
	}
	if i < len(text) && text[i] == '.' {
		whole := digits
		i++
		if pass(); digits == whole {
			return buf, false
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < len(text) && (text[i] == '-' || text[i] == '+') {
			i++
		}
		from := i
		for i < len(text) && text[i]-'0' <= 9 {
			i++
		}
		if i == from {
			return buf, false
		}
	}
	if i < len(text) || len(text) == 0 {
		return buf, false
	}
	f, err := strconv.ParseFloat(unsafe.String(&text[0], len(text)), 64)
	if abs := math.Abs(f); err != nil || !zero && abs < 0x1p-1022 {
		return buf, false
	}
	return binary.BigEndian.AppendUint64(buf, math.Float64bits(f)), true
}

func appendBool(buf, text []byte) ([]byte, bool) {
	switch string(text) {
	case "true", "t":
		return append(buf, 1), true
	case "false", "f":
		return append(buf, 0), true
	}
	return buf, false
}

// appendUUID takes the form with four hyphens.
func appendUUID(buf, text []byte) ([]byte, bool) {
	if len(text) != 36 {
		return buf, false
	}
	high, half := byte(0), false
	for i, c := range text {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return buf, false
			}
			continue
		}
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c-'a' <= 5:
			c -= 'a' - 10
		case c-'A' <= 5:
			c -= 'A' - 10
		default:
			return buf, false
		}
		if half = !half; half {
			high = c << 4
		} else {
			buf = append(buf, high|c)
		}
	}
	return buf, true
}

// epoch is the zero of PostgreSQL's dates and times, in seconds of Unix time: 2000-01-01.
const epoch = 946_684_800

// day reads the date at the start of a text, as 2006-01-02: seconds since epoch.
func day(text []byte) (seconds int64, ok bool) {
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return 0, false
	}
	year, month, date := number(text[:4]), number(text[5:7]), number(text[8:10])
	// The days of years 1 and 9999 may belong to another year in another zone.
	if year < 2 || year > 9998 || month < 1 || month > 12 || date < 1 || date > 28 && date > time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
		return 0, false
	}
	return time.Date(year, time.Month(month), date, 0, 0, 0, 0, time.UTC).Unix() - epoch, true
}

// number reads digits; -1: there is something else.
func number(text []byte) int {
	n := 0
	for _, c := range text {
		if c-'0' > 9 {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func appendDate(buf, text []byte) ([]byte, bool) {
	seconds, ok := day(text)
	if !ok || len(text) != 10 {
		return buf, false
	}
	return binary.BigEndian.AppendUint32(buf, uint32(int32(seconds/86400))), true
}

// moment reads a date and a time of day, as 2006-01-02 15:04:05.999999: microseconds since epoch,
// and the text behind it.
func moment(text []byte) (micros int64, rest []byte, ok bool) {
	seconds, ok := day(text)
	if !ok || len(text) < 19 || text[10] != ' ' && text[10] != 'T' || text[13] != ':' || text[16] != ':' {
		return 0, nil, false
	}
	hour, minute, second := number(text[11:13]), number(text[14:16]), number(text[17:19])
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, nil, false
	}
	micros = (seconds + int64(hour*3600+minute*60+second)) * 1_000_000
	rest = text[19:]
	if len(rest) > 0 && rest[0] == '.' {
		unit, n := int64(100_000), 1
		for ; n < len(rest) && rest[n]-'0' <= 9; n++ {
			micros += unit * int64(rest[n]-'0')
			unit /= 10
		}
		if n == 1 || n > 7 {
			return 0, nil, false
		}
		rest = rest[n:]
	}
	return micros, rest, true
}

func appendTimestamp(buf, text []byte) ([]byte, bool) {
	micros, rest, ok := moment(text)
	if !ok || len(rest) > 0 {
		return buf, false
	}
	return binary.BigEndian.AppendUint64(buf, uint64(micros)), true
}

// appendTimestamptz takes times with an offset: without one, the session's zone decides.
func appendTimestamptz(buf, text []byte) ([]byte, bool) {
	micros, rest, ok := moment(text)
	if !ok || len(rest) == 0 {
		return buf, false
	}
	offset := 0
	switch sign := rest[0]; {
	case sign == 'Z' && len(rest) == 1:
	case sign != '+' && sign != '-', len(rest) != 3 && (len(rest) != 6 || rest[3] != ':'):
		return buf, false
	default:
		hours, minutes := number(rest[1:3]), 0
		if len(rest) == 6 {
			minutes = number(rest[4:6])
		}
		if hours < 0 || hours > 14 || minutes < 0 || minutes > 59 {
			return buf, false
		}
		if offset = hours*3600 + minutes*60; sign == '-' {
			offset = -offset
		}
	}
	return binary.BigEndian.AppendUint64(buf, uint64(micros-int64(offset)*1_000_000)), true
}
