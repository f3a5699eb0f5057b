package files

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"bulkload/chunker/csv"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// A verdict says whether the first record is a header.
type verdict int

const (
	unknown verdict = iota
	header
	data
	contradictory
)

// byForms compares the forms of the first record's fields with those of the columns below: a
// header has words above numbers or dates.
func (c *spec) byForms() verdict {
	if len(c.sample) < 2 {
		return unknown
	}
	below := formsOf(sampled(c.sample[1:], c.Width))
	v := unknown
	for i, f := range c.sample[0] {
		if i >= len(below) || below[i] == 0 || f.Null || len(f.Text) == 0 {
			continue
		}
		this := header
		if form := textForm(f.Text); form&below[i] != 0 || form&numberForm != 0 && below[i]&(intForm|numberForm) != 0 {
			this = data
		}
		switch {
		case v == unknown:
			v = this
		case v != this:
			return contradictory
		}
	}
	return v
}

// errHeader asks the user whether the first record is a header.
func (c *spec) errHeader() error {
	return failure.Reading(c.Files[0].Name, fmt.Errorf("the first record, %s, may be a header or a row: --header yes or --header no decides", strings.Join(shortened(c.sample[0]), ", ")))
}

// headerOfNew decides whether files have a header when their table does not exist yet. They
// have one, unless a field of the first record has the form of the column below it.
func (c *spec) headerOfNew(f *Request) (Header, error) {
	if c.header != HeaderAuto {
		return c.header, nil
	}
	v := c.byForms()
	if v == contradictory {
		return "", c.errHeader()
	}
	if v == unknown && f.Columns != nil {
		// The names are given: a first record without any of them is a row.
		if v = data; c.named(f.Columns) > 0 {
			v = header
		}
	}
	if v == data || v == unknown && c.Dialect.Text {
		return HeaderNo, nil // COPY's text format has seldom a header
	}
	return HeaderYes, nil
}

// named returns how many fields of the first record are one of the names, in any spelling.
func (c *spec) named(names []string) (n int) {
	for _, name := range namesOf(c.sample[0]) {
		if slices.ContainsFunc(names, func(x string) bool { return sameName(x, name) }) {
			n++
		}
	}
	return n
}

// headerOf decides whether files have a header: by the names of the table's columns and of the
// flags, in any spelling, and by the types of the columns below.
func (c *spec) headerOf(t *server.Table, f *Request) (Header, error) {
	if c.header != HeaderAuto {
		return c.header, nil
	}
	known := writable(t)
	for name := range f.Map {
		known = append(known, name)
	}
	if f.Columns != nil {
		known = f.Columns
	}
	matched, v := c.named(known), c.byForms()
	switch {
	case v == contradictory && matched == 0:
		return "", c.errHeader()
	case v == data && matched > 0:
		return "", c.errHeader()
	case matched > 0 && matched*2 < c.Width && v == unknown:
		return "", c.errHeader()
	case matched*2 >= c.Width, v == header:
		return HeaderYes, nil
	}
	return HeaderNo, nil
}

// spelling returns a name without case, blanks and punctuation: First Name equals first_name.
func spelling(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '_', '-', '.', '\t':
			return -1
		}
		return r
	}, strings.ToLower(name))
}

func sameName(a, b string) bool { s := spelling(a); return s != "" && s == spelling(b) }

// maxNameBytes is the maximum length of a name (PostgreSQL, NAMEDATALEN 64; longer names are
// cut silently).
const maxNameBytes = 63

// systemNames are the names of every table's system columns (PostgreSQL, ddl-system-columns;
// CockroachDB has the last two, and tableoid).
var systemNames = []string{"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "rowid", "crdb_internal_mvcc_timestamp", "crdb_internal_origin_id", "crdb_internal_origin_timestamp"}

// usable returns one valid column name for each name of a header: an empty name becomes the
// column's place, a long name is cut, a reserved or repeated name gets an ending.
func usable(names []string, maxBytes int) []string {
	list := make([]string, 0, len(names))
	for i, n := range names {
		n = strings.ToValidUTF8(strings.ReplaceAll(n, "\x00", ""), "")
		if n == "" {
			n = fmt.Sprintf("column%d", i+1)
		}
		n = cutName(n, "", maxBytes)
		if slices.Contains(systemNames, n) {
			n += "_"
		}
		plain := n
		for k := 2; slices.Contains(list, n) || n != plain && slices.Contains(names, n); k++ {
			n = cutName(plain, fmt.Sprintf("_%d", k), maxBytes)
		}
		list = append(list, n)
	}
	return list
}

// cutName cuts a name between two characters, to leave room for an ending.
func cutName(name, ending string, maxBytes int) string {
	for len(name)+len(ending) > maxBytes {
		name = name[:len(name)-1]
	}
	return strings.ToValidUTF8(name, "") + ending
}

// firstIsOdd returns an error if the first records differ in width from those that follow: they
// are a title, or the header lacks a name.
func (c *spec) firstIsOdd(f *Request) error {
	width, counts, usual := len(c.sample[0]), map[int]int{}, 0
	for _, r := range c.sample[1:] {
		if !c.blank(r) {
			counts[len(r)]++
		}
	}
	for w, n := range counts {
		if n > counts[usual] || n == counts[usual] && w > usual {
			usual = w
		}
	}
	at := slices.IndexFunc(c.sample, func(r []csv.Field) bool { return len(r) == usual })
	odd := counts[width] == 0 || usual > width && at == counts[width]+1 && counts[usual] > 1
	if !odd || len(counts) == 0 || f.ShortRows && usual < width || !f.MaxErrors.none() {
		return nil
	}
	names := func(first, last string) string {
		list := usable(namesOf(c.sample[0]), maxNameBytes)
		if first != "" {
			list = slices.Insert(list, 0, first)
		} else {
			list = append(list, last)
		}
		for i, n := range list {
			list[i] = shellWord(n)
		}
		return strings.Join(list, ",")
	}
	switch {
	case usual == width+1 && at == 1 && !slices.ContainsFunc(c.sample[1:], func(r []csv.Field) bool { return len(r) == usual && !r[width].Null }):
		return failure.Reading(c.sampled, fmt.Errorf("the first record has %d fields, and the others end with one more delimiter; --skip %d --header no --columns %s --map x= ignores it", width, f.Skip+1, names("", "x")))
	case usual == width+1 && at == 1 && width > 1:
		return failure.Reading(c.sampled, fmt.Errorf("the first record has %d fields, but %d others have %d; if it is a header without its first name, --skip %d --header no --columns %s adds the name x", width, counts[usual], usual, f.Skip+1, names("x", "")))
	case usual < width:
		return failure.Reading(c.sampled, fmt.Errorf("the first record has %d fields, but %d others have %d; --short-rows null loads NULL for missing fields, --skip %d skips the lines before the header", width, counts[usual], usual, f.Skip+at))
	}
	return failure.Reading(c.sampled, fmt.Errorf("the first record has %d fields, but %d others have %d; --skip %d skips the lines before the header", width, counts[usual], usual, f.Skip+at))
}

// shellWord returns a name of --columns, without a delimiter and quoted where a shell needs it.
func shellWord(name string) string {
	if plainName.MatchString(name) {
		return name
	}
	return strings.Map(func(r rune) rune {
		if r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return '_'
	}, name)
}
