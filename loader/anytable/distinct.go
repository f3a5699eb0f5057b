package anytable

import (
	"fmt"
	"strings"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// distinct makes the rule of a field whose value differs in each row. Where the values begin is drawn
// later, within the field's room. It returns an error if the type has too few values.
func (p *planner) distinct(f *field) error {
	n := uint64(p.rows)
	if have := f.capacity(); have < n {
		return f.tooFew(p, have)
	}
	f.alone = true
	r := &rule{Column: f.Name, Group: f.Name, Pick: pick{Kind: byRow}}
	defer func() { f.rule = r }()
	if f.key != nil {
		p.pickParent(f.key, pick{Kind: byRow, N: uint64(f.key.rows())}, "each row of "+f.key.name()+" at most once")
		r = f.rule
		return nil
	}
	if list := f.allowed(); list != nil {
		r.Form = form{Kind: asList, List: list}
		r.Why = "each of a list once"
		return nil
	}
	switch f.class() {
	case ofInts, ofDecimals, ofFloats, ofDates, ofTimestamps, ofTimes:
		p.distinctNumbers(f, r)
	case ofTexts:
		p.distinctTexts(f, r)
	default:
		r.Form = f.other(p)
		if r.Form.Kind == "" {
			return f.tooFew(p, 0)
		}
		high := f.capacity()
		f.room = &room{first: 0, last: int64(high - n), span: n}
		r.Why = "different ones"
	}
	if f.room != nil {
		if f.room.last < f.room.first {
			return f.tooFew(p, f.capacity())
		}
		r.Form.Min = f.room.first // until its place is drawn
	}
	return nil
}

// distinctNumbers gives a column of numbers or times consecutive values in a random place.
func (p *planner) distinctNumbers(f *field, r *rule) {
	c := f.class()
	r.Form = f.unit()
	if c == ofFloats {
		r.Form.Scale = 0
	}
	low, high, givenLow, givenHigh := f.bounds()
	span := uint64(p.rows)
	if p.info.Product == server.CockroachDB && high > 1<<40 && c == ofInts {
		r.Pick = pick{Kind: byBlock, Block: dataset.KeyBlockRows}
		layout := dataset.KeyLayout{Rows: p.rows, Block: dataset.KeyBlockRows}
		span = uint64(layout.Range().Len())
	}
	if !givenLow {
		low = max(low, f.lowest())
	}
	first, last := low, high
	if !givenLow && !givenHigh { // far from what users number by hand, and from sequences
		switch c {
		case ofDates:
			first, last = years(1970)/day, years(2200)/day
		case ofTimestamps:
			first, last = years(2000), years(2200)
		case ofTimes:
		default:
			if high >= dataset.MaxKeyBase {
				first, last = dataset.MinKeyBase, dataset.MaxKeyBase-1
			} else {
				first = high/2 + 1
			}
		}
	}
	if last-first < int64(span)-1 {
		first, last = low, high
	}
	f.room = &room{first: first, last: last - int64(span) + 1, span: span}
	r.Why = fmt.Sprintf("%d consecutive values, where no rows are", p.rows)
}

// distinctTexts gives a column of texts a pattern with the row's number.
func (p *planner) distinctTexts(f *field, r *rule) {
	n := uint64(p.rows)
	width := codeWidth(n)
	if f.length == 0 || f.length >= 8 {
		width = max(width, 8)
	} else {
		width = f.length
	}
	r.Form = form{Kind: asPattern, Pattern: "{n}", Width: width, Max: f.length}
	if pattern := uniqueName(f.Name, p.tableName()); pattern != "" && (f.length == 0 || f.length >= width+len("x@example.com")+32) {
		r.Form.Pattern = pattern
	} else if f.minLen > width {
		r.Form.Pattern = strings.Repeat("0", f.minLen-width) + "{n}"
	}
	f.room = &room{first: 0, last: int64(codes(width) - n), span: n}
	r.Why = "pattern " + r.Form.Pattern + ", {n} unique"
}

// tooFew returns the error of a key that cannot hold the rows.
func (f *field) tooFew(p *planner, have uint64) error {
	what := "column " + f.Name
	if f.key != nil {
		what += ", which refers to " + f.key.name() + ","
	}
	return dataset.Refuse("%s: %d rows are more than the key can hold: %s has %d different values (%s)", p.table.Display(), p.rows, what, have, f.Type)
}

// uniqueName returns a pattern for a text with a code, by the name of its column.
func uniqueName(column, table string) string {
	name := normal(column)
	switch {
	case strings.Contains(name, "email") || strings.Contains(name, "e_mail"):
		return "{first|plain}.{last|plain}.{n}@example.com"
	case strings.Contains(name, "user") || strings.Contains(name, "login") || strings.Contains(name, "nick") || strings.Contains(name, "handle"):
		return "{first|plain}_{n}"
	case strings.Contains(name, "url") || strings.Contains(name, "website") || strings.Contains(name, "link"):
		return "https://example.com/{word}/{n}"
	case strings.Contains(name, "slug"):
		return "{word}-{word}-{n}"
	case strings.Contains(name, "title"):
		return "{adjective} {product} {n}"
	case name == "name" || strings.HasSuffix(name, "_name"):
		return "{adjective} {product} {n}"
	}
	return ""
}

// keys makes the rules of the unique keys.
func (p *planner) keys() error {
	for _, x := range p.unique() {
		var fields []*field
		left := false // a column of it is the server's
		for i, name := range x.Columns {
			if name == "" {
				for _, f := range p.fields {
					if mentions(x.Exprs[i], f.Name) {
						fields = append(fields, f)
					}
				}
				continue
			}
			if c := p.table.Column(name); c != nil && c.Generated {
				for _, f := range p.fields {
					if i >= x.Implicit && mentions(c.Expr, f.Name) {
						fields = append(fields, f)
					}
				}
				continue
			}
			f := p.field(name)
			if f == nil {
				left = true
				continue
			}
			fields = append(fields, f)
		}
		if left {
			continue
		}
		if err := p.key(x, fields); err != nil {
			return err
		}
	}
	return nil
}

// key makes the rules of one unique key.
func (p *planner) key(x server.TableIndex, fields []*field) error {
	for _, f := range fields {
		if f.alone || f.null || f.key != nil && f.key.none {
			return nil // NULLs are different from each other
		}
	}
	var free []*field
	for _, f := range fields {
		if f.rule == nil && (f.key == nil || !f.key.picked) {
			free = append(free, f)
		}
	}
	if len(fields) == 1 && len(free) == 1 {
		p.checked = append(p.checked, uniqueKey{x, fields})
		return p.distinct(free[0])
	}
	p.checked = append(p.checked, uniqueKey{x, fields})
	// 1. A column that is no foreign key, and can be different in each row.
	if len(free) < len(fields) || !p.hasParents(free) {
		for _, f := range free {
			if f.key == nil && f.capacity() >= uint64(p.rows) {
				return p.distinct(f)
			}
		}
	}
	if len(free) < len(fields) {
		for _, f := range free {
			if f.key != nil && f.capacity() >= uint64(p.rows) {
				return p.distinct(f)
			}
		}
	}
	if len(free) == 0 && p.rows == 1 {
		return nil
	}
	if len(free) == 0 {
		return dataset.Refuse("%s: unique key %s: its columns have rules of --value or of other keys, and may repeat", p.table.Display(), x.Name)
	}
	// 2. Digits of the row's number.
	return p.digits(x, free)
}

func (p *planner) hasParents(list []*field) bool {
	for _, f := range list {
		if f.key != nil {
			return true
		}
	}
	return false
}

// digits makes the columns of a key the digits of the row's number.
func (p *planner) digits(x server.TableIndex, fields []*field) error {
	type digit struct {
		f    *field
		size uint64
	}
	var list []digit
	total := uint64(1)
	for _, f := range fields {
		repeated := false
		for _, d := range list {
			repeated = repeated || f.key != nil && d.f.key == f.key
		}
		if repeated {
			continue
		}
		have := f.capacity()
		list = append(list, digit{f, have})
		if have > 0 && total > 1<<62/have {
			total = 1 << 62
		} else {
			total *= have
		}
	}
	n := uint64(p.rows)
	if total < n {
		return dataset.Refuse("%s: %d rows are more than the key can hold: %s (%s) has %d different values", p.table.Display(), p.rows, x.Name, strings.Join(x.Columns, ", "), total)
	}
	placed := false
	place := func(f *field, first, last int64, span uint64) {
		if !placed {
			f.room = &room{first: first, last: last, span: span, near: true}
			placed = true
		}
	}
	// The first column changes most slowly: rows of neighbouring keys are neighbours.
	div := uint64(1)
	for i := len(list) - 1; i >= 0; i-- {
		d := list[i]
		rest := uint64(1) // different values of the columns in front
		for _, o := range list[:i] {
			if o.size > 0 && rest > 1<<62/o.size {
				rest = 1 << 62
			} else {
				rest *= o.size
			}
		}
		left := (n + div - 1) / div
		mod := min(max((left+rest-1)/rest, min(3, d.size)), d.size)
		if i == 0 {
			mod = min(left, d.size)
		}
		pk := pick{Kind: byDigit, N: d.size, Div: div, Mod: max(mod, 1)}
		if i > 0 && d.f.key != nil {
			pk.Higher = div * pk.Mod
		}
		if d.f.key != nil {
			p.pickParent(d.f.key, pk, "a part of key "+x.Name)
		} else {
			r := &rule{Column: d.f.Name, Group: d.f.Name, Pick: pk, Why: "a part of key " + x.Name}
			if v := d.f.allowed(); v != nil {
				r.Form = form{Kind: asList, List: v}
			} else if d.f.class() == ofTexts {
				w := codeWidth(pk.Mod)
				r.Form = form{Kind: asPattern, Pattern: "{n}", Width: w, Max: d.f.length}
				if d.f.minLen > w {
					r.Form.Pattern = strings.Repeat("0", d.f.minLen-w) + "{n}"
				}
				place(d.f, 0, int64(codes(w)-pk.Mod), pk.Mod)
			} else if r.Form = d.f.unit(); r.Form.Kind != "" {
				low, high, given, _ := d.f.bounds()
				if !given {
					low = max(low, d.f.lowest())
				}
				r.Form.Min = low
				place(d.f, low, max(high-int64(pk.Mod)+1, low), pk.Mod)
			} else if r.Form = d.f.other(p); r.Form.Kind == "" {
				return d.f.tooFew(p, 0)
			}
			d.f.rule = r
		}
		div *= pk.Mod
	}
	return nil
}
