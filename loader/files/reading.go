package files

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// delimiters are the candidates.
var delimiters = []byte{',', '\t', ';', '|'}

// A reading is one way to read the beginning of a file.
type reading struct {
	delimiter byte
	records   [][]csv.Field
	width     int     // of most records
	share     float64 // of the records with that width
	quoted    int     // records with a field in quotes
	stray     int     // records with a quote within a field
}

// possible reports whether all records have the same number of fields, more than one.
func (r *reading) possible() bool { return r.width > 1 && r.share == 1 }

// readingOf parses the beginning of a file with a dialect.
func readingOf(head []byte, whole bool, d csv.Dialect) reading {
	r := reading{delimiter: d.Delimiter}
	s := csv.Scanner{Dialect: d, Buf: head, EOF: whole}
	for at := 0; len(r.records) < sampleRecords && s.Skip(s.Rows+1, math.MaxInt); at = s.At {
		record := head[at:s.At]
		fields, _, err := d.Fields(record, nil, nil)
		if err != nil {
			r.stray++
			continue
		}
		r.records = append(r.records, fields)
		if d.Quote != 0 && bytes.IndexByte(record, d.Quote) >= 0 {
			if quotedField(record, d) {
				r.quoted++
			}
			if slices.ContainsFunc(fields, func(f csv.Field) bool { return bytes.Count(f.Text, []byte{d.Quote})%2 == 1 }) {
				r.stray++
			}
		}
	}
	last := len(r.records)
	for last > 1 && blank(r.records[last-1]) {
		last-- // empty lines at the end are no evidence
	}
	widths := map[int]int{}
	for _, fields := range r.records[:last] {
		widths[len(fields)]++
	}
	for w, n := range widths {
		if n > widths[r.width] || n == widths[r.width] && w > r.width {
			r.width = w
		}
	}
	if n := last + r.broken(); n > 0 {
		r.share = float64(widths[r.width]) / float64(n)
	}
	return r
}

func (r *reading) broken() int { return max(r.stray-len(r.records), 0) }

// blank reports whether a record is an empty line.
func blank(r []csv.Field) bool { return len(r) == 1 && r[0].Null && len(r[0].Text) == 0 }

// blank is blank for the dialect of the files.
func (c *spec) blank(r []csv.Field) bool {
	return blank(r) || c.Dialect.Text && len(r) == 1 && len(r[0].Text) == 0
}

// quotedField reports whether a field of a record is in quotes.
func quotedField(record []byte, d csv.Dialect) bool {
	return record[0] == d.Quote || bytes.Contains(record, []byte{d.Delimiter, d.Quote})
}

// readings returns the readings of the file that begins with head between which the evidence
// cannot decide, the likeliest first; one reading is certain. d has the known settings, except
// for Delimiter. The file's name is evidence as well.
func readings(name string, head []byte, whole bool, d csv.Dialect) []reading {
	var all, list []reading
	for _, c := range delimiters {
		if c == d.Quote || c == d.Escape || strings.IndexByte(d.Null, c) >= 0 {
			continue
		}
		d.Delimiter = c
		r := readingOf(head, whole, d)
		all = append(all, r)
		if r.possible() {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return likeliest(all)
	}
	// 1. The right reading has fields in quotes; wrong ones have quotes within fields.
	if slices.ContainsFunc(list, func(r reading) bool { return r.quoted > 0 && r.stray == 0 }) {
		list = slices.DeleteFunc(list, func(r reading) bool { return r.stray > 0 || r.quoted == 0 })
	}
	// 2. A decimal comma is no delimiter.
	if len(list) > 1 && slices.ContainsFunc(list, func(r reading) bool { return r.delimiter != ',' && r.decimalCommas() }) {
		list = slices.DeleteFunc(list, func(r reading) bool { return r.delimiter == ',' })
	}
	// 3. The name.
	if len(list) > 1 {
		var named byte
		switch ext := strings.ToLower(filepath.Ext(unpacked(name))); ext {
		case ".tsv", ".tab":
			named = '\t'
		case ".psv":
			named = '|'
		}
		if i := slices.IndexFunc(list, func(r reading) bool { return r.delimiter == named }); i >= 0 {
			list = list[i : i+1]
		}
	}
	return list
}

// unpacked returns a name without the suffix of a compressed file.
func unpacked(name string) string {
	for _, ext := range []string{".gz", ".zst", ".bz2", ".xz"} {
		name = strings.TrimSuffix(name, ext)
	}
	return name
}

// likeliest returns the reading with the largest share of records of equal width, where no
// reading is possible because some records are bad, or there is one field. Several readings are
// a tie.
func likeliest(all []reading) (list []reading) {
	best := 0.0
	for _, r := range all {
		if r.width > 1 {
			best = max(best, r.share)
		}
	}
	for _, r := range all {
		if r.width > 1 && r.share == best && best >= 0.5 {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		list = all[:1] // one field
	}
	return list
}

// decimalCommas reports whether there are commas in the records, all of them in numbers.
func (r *reading) decimalCommas() bool {
	some := false
	for _, fields := range r.records {
		for _, f := range fields {
			i := bytes.LastIndexByte(f.Text, ',')
			if i < 0 {
				continue
			}
			number := append(bytes.ReplaceAll(f.Text[:i:i], []byte{'.'}, nil), '.')
			if number = append(number, f.Text[i+1:]...); textForm(bytes.TrimLeft(number, "+-0"))&numberForm == 0 {
				return false
			}
			some = true
		}
	}
	return some
}

// takes reports whether a reading fits a table: its header names columns, or each column
// accepts its values.
func (r *reading) takes(t *server.Table, f *Request) bool {
	if len(r.records) == 0 {
		return false
	}
	names := namesOf(r.records[0])
	if f.Columns != nil {
		if r.width != len(f.Columns) {
			return false
		}
		names = f.Columns
	}
	columns := make([]*server.Column, len(names))
	found := 0
	for i, n := range names {
		if to, ok := f.Map[n]; ok {
			n = to
			found++
		}
		if columns[i] = columnOf(t, n); columns[i] != nil {
			found++
		}
	}
	body := r.records
	if f.Columns == nil && found*2 < len(names) {
		list := writable(t)
		if len(list) != r.width || f.Header == HeaderYes {
			return false
		}
		for i, n := range list {
			columns[i] = t.Column(n)
		}
	}
	if len(body) > 1 && f.Header != HeaderNo {
		body = body[1:]
	}
	for _, fields := range body {
		for i := range min(len(fields), len(columns)) {
			if columns[i] != nil && !fields[i].Null && !plausible(columns[i].Type, fields[i].Text) {
				return false
			}
		}
	}
	return true
}

// plausible reports whether a column with a type may accept a text: numeric columns accept
// numbers.
func plausible(typ string, text []byte) bool {
	text = bytes.TrimSpace(text)
	base, _, _ := strings.Cut(typ, "(")
	switch base {
	case "smallint", "integer", "bigint":
		return textForm(bytes.TrimLeft(text, "+0"))&(intForm|numberForm) != 0 || len(bytes.Trim(text, "+-0")) == 0
	case "numeric", "real", "double precision", "decimal":
		return len(text) > 0 && bytes.IndexByte([]byte("+-.0123456789NnIi"), text[0]) >= 0 && !bytes.ContainsAny(text, ",;|\t")
	case "date", "timestamp without time zone", "timestamp with time zone":
		return len(text) > 0 && !bytes.ContainsAny(text, ";|\t")
	}
	return true
}

// errTie returns the error of a file with several readings.
func errTie(name string, list []reading) error {
	var ways []string
	for _, r := range list {
		first := ""
		if len(r.records) > 0 {
			first = strings.Join(shortened(r.records[0]), " and ")
		}
		if len(r.records) > 1 && len(r.records[1]) > 1 {
			first = strings.Join(shortened(r.records[1]), " and ")
		}
		ways = append(ways, fmt.Sprintf("--delimiter %s gives %d fields: %s", flagOf(r.delimiter), r.width, first))
	}
	return failure.Reading(name, fmt.Errorf("the field separator is not clear; %s", strings.Join(ways, "; ")))
}

// shortened returns the first fields of a record, shortened for messages.
func shortened(r []csv.Field) (list []string) {
	for _, f := range r[:min(len(r), 3)] {
		list = append(list, fmt.Sprintf("%q", f.Text[:min(len(f.Text), 30)]))
	}
	return list
}

// flagOf returns a delimiter as a value of the flag, quoted for a shell.
func flagOf(c byte) string {
	switch c {
	case '\t':
		return "tab"
	}
	return "'" + string(rune(c)) + "'"
}

// namesOf returns the names of a header.
func namesOf(r []csv.Field) []string {
	list := make([]string, len(r))
	for i := range r {
		list[i] = strings.TrimSpace(string(r[i].Text))
	}
	return list
}
