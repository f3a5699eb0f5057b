package files

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// mapFields decides whether there is a header, and which field goes to which column.
// The error is a *dataset.TableError that names everything that is wrong.
func (c *spec) mapFields(ctx context.Context, d *Dataset, f *Request) error {
	t := d.table
	if len(c.sample) == 0 {
		// Nothing but empty files: any mapping will do.
		c.names = writable(t)
		c.Width = len(c.names)
	} else {
		if err := c.readHeader(ctx, d, f); err != nil {
			return err
		}
	}
	var faults []string
	flags := false               // a fault is one of the flags
	given := map[string]string{} // column → what gives it
	for i, name := range c.names {
		column, mapped := f.Map[name]
		if mapped && column == "" {
			continue
		}
		if !mapped {
			column = name
		}
		has := columnOf(t, column)
		switch {
		case has == nil && !mapped && usedIn(c.Set, name):
			c.Fields = append(c.Fields, mappedField{Field: i, Name: name})
			continue
		case has == nil:
			flags = flags || mapped
			faults = append(faults, fmt.Sprintf("%s has no column %s%s", t.Display(), quoteIf(column), suggest(column, t, name)))
			continue
		case has.Generated:
			faults = append(faults, fmt.Sprintf("column %s is computed by the database; leave it out with --map %s=", has.Name, name))
			continue
		case given[has.Name] != "":
			faults = append(faults, fmt.Sprintf("column %s is given twice, by %s and by field %s", has.Name, given[has.Name], quoteIf(name)))
			continue
		}
		given[has.Name] = "field " + quoteIf(name)
		c.Fields = append(c.Fields, mappedField{Field: i, Name: has.Name, Column: true})
	}
	for name := range f.Map {
		if !slices.Contains(c.names, name) {
			flags = true
			faults = append(faults, fmt.Sprintf("--map names a field %s, and the file has %s", quoteIf(name), strings.Join(c.names, ", ")))
		}
	}
	for i, a := range c.Set {
		has := columnOf(t, a.Column)
		switch {
		case has == nil:
			flags = true
			faults = append(faults, fmt.Sprintf("--set names a column %s that %s does not have%s", quoteIf(a.Column), t.Display(), suggest(a.Column, t, "")))
			continue
		case has.Generated:
			flags = true
			faults = append(faults, fmt.Sprintf("--set names column %s, which is computed by the database", has.Name))
		case given[has.Name] != "":
			flags = true
			faults = append(faults, fmt.Sprintf("column %s is given twice, by %s and by --set", has.Name, given[has.Name]))
		}
		c.Set[i].Column = has.Name
		given[has.Name] = "--set"
	}
	for _, col := range t.Columns {
		if given[col.Name] == "" && col.NotNull && !col.Default && !col.Generated && len(faults) == 0 {
			faults = append(faults, fmt.Sprintf("column %s of %s is NOT NULL without a default, and nothing gives it; --set %s=EXPRESSION does", col.Name, t.Display(), col.Name))
		}
	}
	if len(faults) == 0 && !slices.ContainsFunc(c.Fields, func(f mappedField) bool { return f.Column }) && len(c.Set) == 0 {
		faults = append(faults, fmt.Sprintf("no field goes into %s", t.Display()))
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		if n := len(faults); n > maxFaults {
			faults = append(faults[:maxFaults], fmt.Sprintf("and %d more", n-maxFaults))
		}
		return &dataset.TableError{Reason: strings.Join(faults, "; "), Flags: flags}
	}
	return nil
}

// maxFaults bounds an error about a header of many fields; maxName, in bytes, one about
// a name that is none, because a quote is missing perhaps.
const (
	maxFaults = 10
	maxName   = 100
)

// readHeader decides whether the first record is a header, and names the fields.
func (c *spec) readHeader(ctx context.Context, d *Dataset, f *Request) error {
	first := c.sample[0]
	c.Width = len(first)
	var names []string
	matched := 0
	for _, field := range first {
		name := strings.TrimSpace(string(field.Text))
		names = append(names, name)
		if columnOf(d.table, name) != nil || hasKey(f.Map, name) {
			matched++
		}
	}
	header := c.header == HeaderYes
	if c.header == HeaderAuto {
		// A row of data hardly holds names of the table's columns.
		header = matched > 0 && matched*2 >= len(names) || looksLikeHeader(c.sample)
	}
	if f.Header == HeaderAuto || f.Header == "" {
		what := "no header row"
		if header {
			what = "header row"
		}
		d.note(what + " detected (override with --header yes or no)")
	}
	switch {
	case header:
		if err := c.skipHeader(ctx, f); err != nil {
			return err
		}
		c.names = names
		c.sample = c.sample[1:]
		if f.Columns != nil {
			if len(f.Columns) != c.Width {
				return dataset.Contradict("--columns names %d fields, and the header has %d: %s", len(f.Columns), c.Width, strings.Join(names, ", "))
			}
			c.names = f.Columns
		}
		for i, n := range c.names {
			if n == "" {
				return &dataset.TableError{Reason: fmt.Sprintf("field %d of the header has no name; --columns names them all", i+1)}
			}
			if slices.Contains(c.names[:i], n) {
				return &dataset.TableError{Reason: fmt.Sprintf("two fields of the header are called %s; --columns names them apart", quoteIf(n))}
			}
		}
	case f.Columns != nil:
		if len(f.Columns) != c.Width {
			return dataset.Contradict("--columns names %d fields, and the first record has %d", len(f.Columns), c.Width)
		}
		c.names = f.Columns
	default:
		c.names = writable(d.table)
		if len(c.names) != c.Width {
			return &dataset.TableError{Reason: fmt.Sprintf("the first record has %d fields, and %s has %d columns (%s); --columns names the fields, --delimiter what is between them", c.Width, d.table.Display(), len(c.names), strings.Join(c.names, ", "))}
		}
	}
	return nil
}

// skipHeader counts the header of every file to what is in front of its records. The
// headers must be the same.
func (c *spec) skipHeader(ctx context.Context, f *Request) error {
	for i := range c.Files {
		file := &c.Files[i]
		end := 0
		head, _, err := c.head(ctx, f, file, func(head []byte, whole bool) (bool, error) {
			s := csv.Scanner{Dialect: c.Dialect, Buf: head[file.Data:], EOF: whole}
			found := s.Skip(1, math.MaxInt)
			end = s.At
			return found, nil
		})
		if err != nil {
			return err
		}
		body := head[file.Data:]
		if end == 0 {
			if len(body) == 0 {
				continue
			}
			return failure.Reading(file.Name, errors.New("its header does not end"))
		}
		text := string(body[:end])
		if trimmed := strings.TrimRight(text, "\r\n"); c.Header == "" {
			c.Header = trimmed
		} else if trimmed != c.Header {
			return failure.Reading(file.Name, fmt.Errorf("has another header than %s; load it by itself", c.Files[0].Base()))
		}
		file.Data += int64(end)
	}
	return nil
}

// looksLikeHeader reports whether the first record holds nothing but words while those
// after it do not, for files whose names are not the table's.
func looksLikeHeader(sample [][]csv.Field) bool {
	if len(sample) < 2 {
		return false
	}
	for _, f := range sample[0] {
		if f.Null || !word.Match(f.Text) {
			return false
		}
	}
	for _, f := range sample[1] {
		if number.Match(f.Text) {
			return true
		}
	}
	return false
}

var (
	word   = regexp.MustCompile(`^\s*[\pL_][\pL\pN_ .-]*$`)
	number = regexp.MustCompile(`^[+-]?[0-9]`)
)

// usedIn reports whether an expression may use the field of that name.
func usedIn(set []commit.Assignment, name string) bool {
	at := regexp.MustCompile(`(?i)(^|[^\pL\pN_])` + regexp.QuoteMeta(name) + `($|[^\pL\pN_])`)
	return slices.ContainsFunc(set, func(a commit.Assignment) bool { return at.MatchString(a.Expr) })
}

func hasKey(m map[string]string, name string) bool { _, ok := m[name]; return ok }

// columnOf returns the column of that name, in any case where just one has it.
func columnOf(t *server.Table, name string) *server.Column {
	if c := t.Column(name); c != nil {
		return c
	}
	var found *server.Column
	for i := range t.Columns {
		if strings.EqualFold(t.Columns[i].Name, name) {
			if found != nil {
				return nil
			}
			found = &t.Columns[i]
		}
	}
	return found
}

// writable returns the names of the columns that rows are written to, in order.
func writable(t *server.Table) []string {
	var names []string
	for _, c := range t.Columns {
		if !c.Generated && !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// quoteIf quotes a name that is not plain to see.
func quoteIf(name string) string {
	if len(name) > maxName {
		return fmt.Sprintf("%q… (%d bytes)", name[:maxName], len(name))
	}
	if plainName.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%q", name)
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// suggest returns what may have been meant by the name of a column that there is not.
func suggest(name string, t *server.Table, field string) string {
	best, least := "", 1+len(name)/3
	if len(name) > maxName {
		least = -1
	}
	for _, c := range writable(t) {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d <= least {
			best, least = c, d-1
		}
	}
	switch {
	case best != "" && field != "":
		return fmt.Sprintf("; --map %s=%s if that is meant", quoteIf(field), best)
	case best != "":
		return fmt.Sprintf("; %s may be meant", best)
	case field != "":
		return fmt.Sprintf("; it has %s, and --map %s= leaves the field out", strings.Join(writable(t), ", "), quoteIf(field))
	}
	return fmt.Sprintf("; it has %s", strings.Join(writable(t), ", "))
}

// distance is the number of characters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost = 1 + min(before, row[j], row[j+1])
			}
			before, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
