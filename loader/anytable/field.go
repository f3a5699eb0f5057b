package anytable

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkload/loader/server"
)

// A field is a column of the table that a load writes.
type field struct {
	*server.Column
	base      string // type without length, in small letters
	array     bool
	length    int // of texts, bits and vectors; zero is any
	precision int // of decimals; zero is any
	scale     int
	labels    []string
	limits
	key  *parents // the foreign key that it belongs to, or nil
	rule *rule    // nil until it is made
	left bool     // the column is not written
	// alone says that no two rows have the same value.
	alone bool
	// room are the places for the first of the drawn values of a key; nil: nothing is drawn.
	room *room
}

// A room is where a range of keys may begin. span is the number of the keys; zero: they are not
// looked for.
type room struct {
	first, last int64
	span        uint64
	// near says that the range begins at first where nothing is in the way.
	near bool
}

var typeParts = regexp.MustCompile(`^("[^"]*"|[^("\[]*(?:"[^"]*")?)(?:\((-?\d+)(?:,\s*(-?\d+))?\))?([^\[]*)((?:\[\])*)$`)

// newField parses a column's type.
func newField(c *server.Column, p server.Product, labels []string, l *limits) *field {
	f := &field{Column: c, labels: labels}
	if l != nil {
		f.limits = *l
	}
	typ := c.Type
	if p == server.PostgreSQL && c.Base != "" {
		typ = c.Base
	}
	m := typeParts.FindStringSubmatch(typ)
	if m == nil {
		m = []string{"", typ, "", "", "", ""}
	}
	f.base = strings.ToLower(strings.TrimSpace(m[1]) + m[4])
	if at := strings.LastIndexByte(f.base, '.'); at >= 0 {
		f.base = f.base[at+1:]
	}
	f.array = m[5] != "" || strings.HasPrefix(f.base, "_")
	n, _ := strconv.Atoi(m[2])
	switch {
	case f.base == "numeric" || f.base == "decimal":
		f.precision = n
		f.scale, _ = strconv.Atoi(m[3])
	case strings.HasPrefix(f.base, "time") || strings.HasPrefix(f.base, "interval"):
	default:
		f.length = n
	}
	if (f.base == "bit" || f.base == "character") && f.length == 0 && strings.HasPrefix(strings.ToLower(typ), f.base) {
		f.length = 1
	}
	switch f.base {
	case `"char"`:
		f.base, f.length = "text", 1
	case "bpchar", "citext", "name", "string", "character", "character varying", "varchar", "char":
		if f.base == "name" {
			f.length = 63
		}
		f.base = "text"
	}
	if f.maxLen > 0 && (f.length == 0 || f.maxLen < f.length) {
		f.length = f.maxLen
	}
	return f
}

// fit makes the values of a key fit the column of a child that refers to it.
func (f *field) fit(child *field) {
	switch {
	case f.class() != child.class():
	case f.class() == ofInts:
		if _, high := child.span(); high < f.largest() {
			f.base = child.base
		}
	case f.class() == ofTexts && child.length > 0 && (f.length == 0 || child.length < f.length):
		f.length = child.length
	}
}

func (f *field) largest() int64 {
	_, n := f.span()
	return n
}

// A class is what values of a type are made of.
type class int

// The classes of types.
const (
	ofUnknown class = iota
	ofInts
	ofDecimals
	ofFloats
	ofBools
	ofTexts
	ofDates
	ofTimes
	ofTimestamps
	ofOthers // forms without bounds
)

func (f *field) class() class {
	if len(f.labels) > 0 || f.array {
		return ofOthers
	}
	switch f.base {
	case "smallint", "integer", "bigint", "oid":
		return ofInts
	case "numeric", "decimal", "money":
		return ofDecimals
	case "real", "double precision":
		return ofFloats
	case "boolean":
		return ofBools
	case "text":
		return ofTexts
	case "date":
		return ofDates
	case "time without time zone", "time with time zone", "time", "timetz":
		return ofTimes
	case "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz":
		return ofTimestamps
	case "uuid", "bytea", "bit", "bit varying", "varbit", "inet", "cidr", "macaddr", "macaddr8", "json", "jsonb", "xml", "interval", "vector",
		"point", "lseg", "box", "path", "polygon", "circle", "line", "geometry", "geography", "tsvector", "tsquery", "hstore", "ltree", "pg_lsn",
		"int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange", "box2d":
		return ofOthers
	}
	return ofUnknown
}

// zone returns what is behind the times of a column.
func (f *field) zone() string {
	if strings.Contains(f.base, "with time zone") || f.base == "timestamptz" || f.base == "timetz" {
		return "+00"
	}
	return ""
}

// unit returns the form of a class whose values are numbers: index i is the value of form.Min + i.
func (f *field) unit() form {
	switch f.class() {
	case ofInts:
		return form{Kind: asNumber}
	case ofDecimals:
		scale := f.scale
		if f.precision == 0 {
			scale = 2
		}
		return form{Kind: asNumber, Scale: min(max(scale, 0), maxScale)}
	case ofFloats:
		return form{Kind: asNumber, Scale: 3}
	case ofDates:
		return form{Kind: asDate}
	case ofTimes:
		return form{Kind: asTime, Zone: f.zone()}
	case ofTimestamps:
		return form{Kind: asTimestamp, Zone: f.zone()}
	}
	return form{}
}

// Days and seconds of times.
var (
	epoch = time.Unix(0, 0).UTC()
	years = func(y int) int64 {
		return int64(time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Sub(epoch) / time.Second)
	}
)

const day = 86400

// span returns the smallest and largest value of the type, in units of unit.
func (f *field) span() (low, high int64) {
	switch f.class() {
	case ofInts:
		switch f.base {
		case "smallint":
			return math.MinInt16, math.MaxInt16
		case "integer":
			return math.MinInt32, math.MaxInt32
		case "oid":
			return 0, math.MaxUint32
		}
		return math.MinInt64, math.MaxInt64
	case ofDecimals:
		if f.base == "money" {
			return -1 << 53, 1 << 53
		}
		if p := f.precision; p > 0 && p <= maxScale {
			return 1 - powersOfTen[p], powersOfTen[p] - 1
		}
		return -1 << 62, 1 << 62
	case ofFloats:
		if f.base == "real" {
			return -1 << 23, 1 << 23
		}
		return -1 << 52, 1 << 52
	case ofDates:
		return firstDay, lastDay
	case ofTimes:
		return 0, day - 1
	case ofTimestamps:
		return firstDay * day, lastDay * day
	}
	return 0, 0
}

var timeForms = []string{"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07", "2006-01-02T15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02", "15:04:05", "15:04"}

// units returns a value in units of unit. up rounds up.
func (f *field) units(text string, up bool) (int64, error) {
	text = strings.TrimSpace(text)
	switch f.class() {
	case ofInts, ofDecimals, ofFloats:
		x, err := strconv.ParseFloat(strings.TrimPrefix(text, "$"), 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", text)
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && f.unit().Scale == 0 {
			return n, nil
		}
		x *= float64(powersOfTen[f.unit().Scale])
		if x = math.Round(x*1e6) / 1e6; up {
			x = math.Ceil(x)
		} else {
			x = math.Floor(x)
		}
		return int64(min(max(x, -1<<62), 1<<62)), nil
	case ofDates, ofTimes, ofTimestamps:
		for _, layout := range timeForms {
			t, err := time.Parse(layout, text)
			if err != nil {
				continue
			}
			s := t.Unix()
			switch f.class() {
			case ofDates:
				s = floorDiv(s, day)
			case ofTimes:
				s = int64(t.Hour()*3600 + t.Minute()*60 + t.Second())
			}
			return s, nil
		}
		return 0, fmt.Errorf("%q is not a time", text)
	}
	return 0, fmt.Errorf("a column of type %s has no order here", f.Type)
}

// bounds returns the smallest and largest value that type and CHECKs allow, in units of unit. given
// tells which of them is a CHECK's.
func (f *field) bounds() (low, high int64, givenLow, givenHigh bool) {
	low, high = f.span()
	if b := f.low; b != nil {
		if n, err := f.units(b.text, true); err == nil {
			if whole, _ := f.units(b.text, false); b.strict && whole == n {
				n++
			}
			low, givenLow = max(low, n), true
		}
	}
	if b := f.high; b != nil {
		if n, err := f.units(b.text, false); err == nil {
			if up, _ := f.units(b.text, true); b.strict && up == n {
				n--
			}
			high, givenHigh = min(high, n), true
		}
	}
	return low, high, givenLow, givenHigh
}

// allowed returns the values of a list that a CHECK allows; nil: there is no list.
func (f *field) allowed() []string {
	list := f.in
	if list == nil && len(f.labels) > 0 && !f.array {
		list = f.labels
	}
	if list == nil && f.class() == ofBools {
		list = []string{"false", "true"}
	}
	if list == nil {
		return nil
	}
	list = slices.DeleteFunc(slices.Clone(list), func(v string) bool { return slices.Contains(f.not, v) })
	slices.Sort(list)
	return slices.Compact(list)
}

// capacity returns how many different values the column can hold, at most 2^62.
func (f *field) capacity() uint64 {
	switch {
	case f.key != nil:
		return uint64(max(f.key.rows(), 0))
	case f.null:
		return 0
	}
	if list := f.allowed(); list != nil {
		return uint64(len(list))
	}
	switch f.class() {
	case ofInts, ofDecimals, ofFloats, ofDates, ofTimes, ofTimestamps:
		low, high, given, _ := f.bounds()
		if !given {
			low = max(low, f.lowest())
		}
		if high < low {
			return 0
		}
		return min(uint64(high-low)+1, 1<<62)
	case ofTexts:
		if f.length == 0 {
			return 1 << 62
		}
		return codes(f.length)
	case ofOthers:
		switch {
		case f.array:
			return 0
		case f.base == "bit" || f.base == "bit varying" || f.base == "varbit":
			if f.length > 0 && f.length < 62 {
				return 1 << f.length
			}
			return 1 << 62
		case f.base == "inet":
			return 1 << 24
		case f.base == "cidr":
			return 1 << 16
		case f.base == "interval":
			return 1 << 31
		case f.base == "macaddr":
			return 1 << 40
		case slices.Contains([]string{"uuid", "bytea", "macaddr8"}, f.base):
			return 1 << 62
		case slices.Contains([]string{"json", "jsonb", "ltree"}, f.base):
			return 1 << 52
		case strings.HasSuffix(f.base, "range"):
			return 1 << 30
		}
	}
	return 0
}

// lowest is where the keys of a class begin.
func (f *field) lowest() int64 {
	switch f.class() {
	case ofDates:
		return years(1900) / day
	case ofTimestamps:
		return years(1900)
	case ofTimes:
		return 0
	}
	return 1
}
