package anytable

import (
	"fmt"
	"strconv"

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
		return bytesText(f.Length), nil
	case asBits:
		return bitsText(f.Length), nil
	case asAddress, asNetwork:
		network := f.Kind == asNetwork
		return func(buf []byte, i, _ uint64) []byte { return appendAddress(buf, i, network) }, nil
	case asMAC:
		return macText(max(f.Length, 6)), nil
	case asJSON:
		return func(buf []byte, i, random uint64) []byte { return appendJSON(buf, i, random) }, nil
	case asXML:
		return func(buf []byte, i, _ uint64) []byte {
			return append(strconv.AppendUint(append(buf, "<row><n>"...), i, 10), "</n></row>"...)
		}, nil
	case asVector:
		return vectorText(f.Length), nil
	case asPoint:
		return pointText(f.Template), nil
	case asRange:
		inner, err := f.Of.compile()
		if err != nil {
			return nil, err
		}
		return rangeText(inner), nil
	case asArray:
		inner, err := f.Of.compile()
		if err != nil {
			return nil, err
		}
		return arrayText(inner, uint64(max(f.Length, 1)), f.Of.size()), nil
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
