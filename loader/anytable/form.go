package anytable

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"bulkload/loader/dataset"
)

// A forming is a way to make text of an index.
type forming string

// The ways to make text of an index.
const (
	asNumber    forming = "number"    // Min + Step × index, with Scale digits after the point
	asList      forming = "list"      // List[index]
	asDate      forming = "date"      // day Min + index since 1970
	asTime      forming = "time"      // second index of a day
	asTimestamp forming = "timestamp" // second Min + Step × index since 1970, of UTC
	asInterval  forming = "interval"  // Min + index minutes
	asUUID      forming = "uuid"
	asBytes     forming = "bytes" // Length bytes
	asBits      forming = "bits"  // Length bits
	asAddress   forming = "inet"
	asNetwork   forming = "cidr"
	asMAC       forming = "macaddr"
	asJSON      forming = "json"
	asPattern   forming = "pattern" // see pattern
	asVector    forming = "vector"  // of Length numbers
	asPoint     forming = "point"   // Template with two numbers
	asRange     forming = "range"   // from index to index + 1, of the form Of
	asArray     forming = "array"   // up to Length values of the form Of
	asXML       forming = "xml"
	asParent    forming = "parent" // column Column of row index of parent Parent
)

// A form makes text of an index.
type form struct {
	Kind     forming  `json:"kind"`
	Min      int64    `json:"min,omitempty"`
	Step     int64    `json:"step,omitempty"` // zero is 1
	Scale    int      `json:"scale,omitempty"`
	Length   int      `json:"length,omitempty"`
	Max      int      `json:"max,omitempty"` // longest text in characters; zero is any
	List     []string `json:"list,omitempty"`
	Pattern  string   `json:"pattern,omitempty"`
	Width    int      `json:"width,omitempty"` // of {n} in Pattern
	Zone     string   `json:"zone,omitempty"`  // behind times
	Parent   int      `json:"parent,omitempty"`
	Column   string   `json:"column,omitempty"`
	Template string   `json:"template,omitempty"`
	Of       *form    `json:"of,omitempty"`
}

// appender makes text of an index. random is another number of the row, for what the index does
// not say.
type appender = func(buf []byte, index, random uint64) []byte

// textOf compiles the form of a rule.
func (b *builder) textOf(r *rule) (appender, error) {
	if r.Form.Kind == asParent {
		return b.parentText(r)
	}
	return r.Form.compile()
}

// parentText compiles the key of a parent's row.
func (b *builder) parentText(r *rule) (appender, error) {
	p := &b.Parents[r.Form.Parent]
	switch {
	case p.Self:
		key := b.rule(r.Form.Column)
		if key == nil || key.SQL != "" {
			return nil, fmt.Errorf("column %s refers to column %s, which has no computed values", r.Column, r.Form.Column)
		}
		of, err := b.column(key)
		if err != nil {
			return nil, err
		}
		return rowText(of), nil
	case p.Computed != nil:
		key := p.Computed.rule(r.Form.Column)
		if key == nil || key.SQL != "" {
			return nil, fmt.Errorf("column %s refers to column %s of %s, which has no computed values", r.Column, r.Form.Column, p.Table)
		}
		inner := &builder{generator: p.Computed, built: map[string]*column{}}
		of, err := inner.column(key)
		if err != nil {
			return nil, err
		}
		return rowText(of), nil
	}
	for i, name := range p.Columns {
		if name == r.Form.Column && i < len(p.Sample) {
			list := p.Sample[i]
			return func(buf []byte, i, _ uint64) []byte { return append(buf, list[i]...) }, nil
		}
	}
	return nil, fmt.Errorf("column %s refers to column %s of %s, of which no keys are recorded", r.Column, r.Form.Column, p.Table)
}

// rowText takes the index for the number of a row of another column.
func rowText(of *column) appender {
	return func(buf []byte, i, _ uint64) []byte {
		text, null := of.AppendValue(buf, int64(i))
		if null {
			return buf
		}
		return text
	}
}

// compile returns the appender of a form.
func (f *form) compile() (appender, error) {
	value, err := f.value()
	switch f.Kind {
	case asNumber, asDate, asTimestamp, asInterval, asUUID, asParent, asList:
		return value, err // they begin at Min themselves
	}
	if f.Min == 0 || err != nil {
		return value, err
	}
	first := uint64(f.Min)
	return func(buf []byte, i, random uint64) []byte { return value(buf, first+i, random) }, nil
}

// value returns the appender of a form, which most forms begin at index 0.
func (f *form) value() (appender, error) {
	step := f.Step
	if step == 0 {
		step = 1
	}
	switch f.Kind {
	case asNumber:
		first, scale := f.Min, f.Scale
		if scale == 0 {
			return func(buf []byte, i, _ uint64) []byte { return strconv.AppendInt(buf, first+step*int64(i), 10) }, nil
		}
		return func(buf []byte, i, _ uint64) []byte { return appendDecimal(buf, first+step*int64(i), scale) }, nil
	case asList:
		list := f.List
		return func(buf []byte, i, _ uint64) []byte { return append(buf, list[i%uint64(len(list))]...) }, nil
	case asDate:
		first := f.Min
		return func(buf []byte, i, _ uint64) []byte { return appendDate(buf, first+int64(i)) }, nil
	case asTime:
		zone := f.Zone
		return func(buf []byte, i, _ uint64) []byte {
			return append(appendClock(buf, int64(i)%86400), zone...)
		}, nil
	case asTimestamp:
		first, zone := f.Min, f.Zone
		return func(buf []byte, i, _ uint64) []byte {
			at := first + step*int64(i)
			days := floorDiv(at, 86400)
			buf = append(appendDate(buf, days), ' ')
			return append(appendClock(buf, at-days*86400), zone...)
		}, nil
	case asInterval:
		first := f.Min
		return func(buf []byte, i, _ uint64) []byte {
			return append(strconv.AppendInt(buf, first+int64(i), 10), " minutes"...)
		}, nil
	case asUUID:
		first := uint64(f.Min)
		return func(buf []byte, i, random uint64) []byte { return appendUUID(buf, dataset.Mix(first+i), random) }, nil
	case asBytes:
		n := f.Length
		return func(buf []byte, i, random uint64) []byte {
			buf = append(buf, `\x`...)
			for k := 0; k < n; k++ {
				buf = hex.AppendEncode(buf, []byte{byte(i >> (8 * uint(k%8)))})
				if k%8 == 7 {
					i = dataset.Mix(random + uint64(k))
				}
			}
			return buf
		}, nil
	case asBits:
		n := f.Length
		return func(buf []byte, i, _ uint64) []byte {
			for k := n - 1; k >= 0; k-- {
				buf = append(buf, '0'+byte(i>>uint(k%64)&1))
			}
			return buf
		}, nil
	case asAddress, asNetwork:
		network := f.Kind == asNetwork
		return func(buf []byte, i, _ uint64) []byte { return appendAddress(buf, i, network) }, nil
	case asMAC:
		n := max(f.Length, 6)
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
		}, nil
	case asJSON:
		return func(buf []byte, i, random uint64) []byte { return appendJSON(buf, i, random) }, nil
	case asXML:
		return func(buf []byte, i, _ uint64) []byte {
			return append(strconv.AppendUint(append(buf, "<row><n>"...), i, 10), "</n></row>"...)
		}, nil
	case asVector:
		n := f.Length
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
		}, nil
	case asPoint:
		return pointText(f.Template), nil
	case asRange:
		inner, err := f.Of.compile()
		if err != nil {
			return nil, err
		}
		return func(buf []byte, i, random uint64) []byte {
			buf = inner(append(buf, `["`...), i, random)
			return append(inner(append(buf, `","`...), i+1, random), `")`...)
		}, nil
	case asArray:
		inner, err := f.Of.compile()
		if err != nil {
			return nil, err
		}
		most := uint64(max(f.Length, 1))
		size := f.Of.size()
		return func(buf []byte, _, random uint64) []byte {
			buf = append(buf, '{')
			n := 1 + dataset.Below(random, most)
			for k := range n {
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
		}, nil
	case asPattern:
		return compilePattern(f.Pattern, f.Width, f.Max)
	}
	return nil, fmt.Errorf("this version of loader does not know values of form %q", f.Kind)
}

// size returns the number of indexes of a form within an array; zero is any.
func (f *form) size() uint64 {
	switch f.Kind {
	case asList:
		return uint64(len(f.List))
	case asNumber:
		return 100
	case asDate:
		return 1000
	case asTimestamp:
		return 86400 * 365
	case asTime:
		return 86400
	case asInterval:
		return 10_000
	}
	return 0
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

// Days between which appendDate computes: 0001-01-01 to 9999-12-31.
const (
	firstDay = -719162
	lastDay  = 2932896
)

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
func cut(buf []byte, from, most int) []byte {
	if most <= 0 || len(buf)-from <= most {
		return buf
	}
	if utf8.RuneCount(buf[from:]) <= most {
		return buf
	}
	at := from
	for range most {
		_, n := utf8.DecodeRune(buf[at:])
		at += n
	}
	return buf[:at]
}
