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

// mapFields decides whether there is a header, and maps fields to columns. The error is a
// *dataset.TableError that names every fault.
func (c *spec) mapFields(ctx context.Context, d *Dataset, f *Request) error {
	t := d.table
	if len(c.sample) == 0 {
		// All files are empty: any mapping will do.
		c.names = writable(t)
		c.Width = len(c.names)
	} else if c.made == nil {
		if err := c.settle(t, f); err != nil {
			return err
		}
		if err := c.readHeader(ctx, d, t); err != nil {
			return err
		}
	}
	targets, err := c.targets(t, f)
	if err != nil {
		return err
	}
	var faults []string
	flags := false               // a flag is at fault
	given := map[string]string{} // column → the field or flag that supplies it
	for i, name := range c.names {
		column, mapped := f.Map[name]
		if mapped && column == "" {
			continue
		}
		if !mapped {
			column = name
		}
		has := targets[i]
		feeds := usedIn(c.Set, name)
		if has != nil && feeds && slices.ContainsFunc(c.Set, func(a commit.Assignment) bool { return columnOf(t, a.Column) == has }) {
			has = nil // the field is an input of the column's expression
		}
		switch {
		case has == nil && !mapped && feeds:
			c.Fields = append(c.Fields, mappedField{Field: i, Name: name})
			continue
		case has == nil && mapped && usedIn(c.Set, column):
			c.Fields = append(c.Fields, mappedField{Field: i, Name: column})
			continue
		case has == nil:
			flags = flags || mapped
			faults = append(faults, fmt.Sprintf("%s has no column %s%s", t.Display(), quoteIf(column), suggest(column, t, name)))
			continue
		case has.Generated:
			faults = append(faults, fmt.Sprintf("column %s is computed by the database; leave it out with --map %s=", has.Name, name))
			continue
		case given[has.Name] != "":
			faults = append(faults, fmt.Sprintf("column %s is set twice, by %s and by field %s", has.Name, given[has.Name], quoteIf(name)))
			continue
		}
		given[has.Name] = "field " + quoteIf(name)
		c.Fields = append(c.Fields, mappedField{Field: i, Name: has.Name, Column: true})
	}
	for name := range f.Map {
		if !slices.Contains(c.names, name) {
			flags = true
			faults = append(faults, fmt.Sprintf("--map names field %s, but the file has %s", quoteIf(name), strings.Join(c.names, ", ")))
		}
	}
	for i, a := range c.Set {
		has := columnOf(t, a.Column)
		switch {
		case has == nil:
			flags = true
			faults = append(faults, fmt.Sprintf("--set names column %s, but %s does not have it%s", quoteIf(a.Column), t.Display(), suggest(a.Column, t, "")))
			continue
		case has.Generated:
			flags = true
			faults = append(faults, fmt.Sprintf("--set names column %s, which is computed by the database", has.Name))
		case given[has.Name] != "":
			flags = true
			faults = append(faults, fmt.Sprintf("column %s is set twice, by %s and by --set", has.Name, given[has.Name]))
		}
		c.Set[i].Column = has.Name
		given[has.Name] = "--set"
	}
	for _, col := range t.Columns {
		if given[col.Name] == "" && col.NotNull && !col.Default && !col.Generated && len(faults) == 0 {
			faults = append(faults, fmt.Sprintf("column %s of %s is NOT NULL without a default, and no field goes into it; --set %s=EXPRESSION sets it", col.Name, t.Display(), col.Name))
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

// maxFaults bounds an error about a header of many fields. maxName, in bytes, bounds one about
// an invalid name, perhaps the result of a missing quote.
const (
	maxFaults = 10
	maxName   = 100
)

// settle chooses the delimiter where the beginning of the files alone could not: an existing
// table's columns are evidence.
func (c *spec) settle(t *server.Table, f *Request) error {
	list := c.tied
	if len(list) > 1 && t != nil {
		list = slices.DeleteFunc(slices.Clone(list), func(r reading) bool { return !r.takes(t, f) })
	}
	switch {
	case len(c.tied) == 0:
		return nil
	case len(list) != 1:
		return errTie(c.sampled, c.tied)
	}
	c.Dialect.Delimiter = list[0].delimiter
	if c.sample[0] = list[0].records[0]; len(c.tied) > 1 {
		c.sample = list[0].records
		c.Longest, c.Elements = longest(c.sample)
	}
	return nil
}

// guess reports a guess. An unsure guess, one of several possible answers, is also reported in
// quiet mode.
func (d *Dataset) guess(sure bool, text string) {
	d.spec.told = append(d.spec.told, text)
	if sure || d.tell == nil {
		d.note(text)
		return
	}
	d.tell(text)
}

// readHeader decides whether the first record is a header, and names the fields. t is nil while
// there is no table.
func (c *spec) readHeader(ctx context.Context, d *Dataset, t *server.Table) error {
	f := &d.Request
	first := c.sample[0]
	c.Width = len(first)
	names := namesOf(first)
	has, err := c.headerOf, error(nil)
	if t == nil {
		has = func(*server.Table, *Request) (Header, error) { return c.headerOfNew(f) }
	}
	if err := c.firstIsOdd(f); err != nil {
		return err
	}
	header, err := has(t, f)
	if err != nil {
		return err
	}
	if c.guessed {
		d.guess(len(c.tied) == 1, fmt.Sprintf("delimiter %q (guessed; --delimiter names another)", c.Dialect.Delimiter))
	}
	if c.header == HeaderAuto {
		what := "no header row"
		if header == HeaderYes {
			what = "header row"
		}
		sure := header == HeaderYes && t != nil && f.Columns == nil && c.named(writable(t)) > 0
		d.guess(sure, what+" detected (override with --header yes or no)")
	}
	if !c.Dialect.Text && c.Dialect.Null == "" && slices.ContainsFunc(c.sample, func(r []csv.Field) bool {
		return slices.ContainsFunc(r, func(x csv.Field) bool { return string(x.Text) == `\N` })
	}) {
		d.guess(false, `\N is read as text (--null '\N' reads it as NULL; --format text reads COPY's text format)`)
	}
	c.header = header
	var body [][]csv.Field
	switch {
	case header == HeaderYes:
		if err := c.skipHeader(ctx, f); err != nil {
			return err
		}
		c.names = names
		body = c.sample[1:]
		if f.Columns != nil {
			if c.tails(body, len(f.Columns)) {
				break
			}
			if len(f.Columns) != c.Width {
				return dataset.Contradict("--columns names %d fields, but the header has %d: %s", len(f.Columns), c.Width, strings.Join(names, ", "))
			}
			c.names = f.Columns
		} else if names[c.Width-1] == "" && t != nil && c.tails(body, c.Width-1) {
			c.names = names[:c.Width]
		}
	case f.Columns != nil:
		body = c.sample
		if !c.tails(body, len(f.Columns)) && len(f.Columns) != c.Width {
			return dataset.Contradict("--columns names %d fields, but the first record has %d", len(f.Columns), c.Width)
		}
		c.names = f.Columns
	case t == nil:
		body = c.sample
		for i := range c.Width {
			c.names = append(c.names, fmt.Sprintf("col%d", i+1))
		}
	default:
		body = c.sample
		c.names = writable(t)
		if !c.tails(body, len(c.names)) && len(c.names) != c.Width {
			return &dataset.TableError{Reason: fmt.Sprintf("the first record has %d fields, but %s has %d columns (%s); --columns names the fields, --header yes reads the names from it, --skip N skips lines before it, --delimiter sets the field separator", c.Width, t.Display(), len(c.names), strings.Join(c.names, ", "))}
		}
	}
	if f.Columns != nil {
		c.names = f.Columns
	}
	c.sample = body
	c.Guard.Forms = formsOf(sampled(body, c.Width))
	return nil
}

// tails reports whether each record has n fields and one more NULL, because it ends with a
// delimiter. That NULL is not a field.
func (c *spec) tails(body [][]csv.Field, n int) bool {
	if n < 1 || c.Width != n+1 || len(body) == 0 {
		return false
	}
	for _, r := range body {
		if len(r) == c.Width && !r[n].Null {
			return false
		}
	}
	c.Tail, c.Width = true, n
	return true
}

// skipHeader adds the header of every file to the text in front of its records. The headers
// must be the same.
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
			if file.Order = c.orderOf(body[:end]); file.Order == nil || !f.MaxErrors.none() {
				return failure.Reading(file.Name, fmt.Errorf("has another header than %s; load it separately", c.Files[0].Base()))
			}
		}
		file.Data += int64(end)
	}
	return nil
}

// targets returns, for each field, the column with its name, or nil.
func (c *spec) targets(t *server.Table, f *Request) ([]*server.Column, error) {
	list := make([]*server.Column, len(c.names))
	names := usable(c.names, maxNameBytes)
	for i, name := range c.names {
		to, mapped := f.Map[name]
		switch {
		case c.made != nil:
			if c.made[i] != "" {
				list[i] = t.Column(c.made[i])
			}
		case mapped:
			list[i] = columnOf(t, to)
		default:
			if list[i] = columnOf(t, name); list[i] == nil || slices.Contains(list[:i], list[i]) {
				// The name that --create-table gives the column.
				list[i] = t.Column(names[i])
			}
			if list[i] != nil && slices.Contains(list[:i], list[i]) {
				list[i] = nil // two fields match the column
			}
			switch {
			case list[i] != nil || usedIn(c.Set, name) && name != "":
			case name == "":
				return nil, &dataset.TableError{Reason: fmt.Sprintf("field %d of the header has no name; --map =COLUMN sets its column, --map = drops it, --columns names all fields", i+1)}
			case slices.Contains(c.names[:i], name):
				return nil, &dataset.TableError{Reason: fmt.Sprintf("two fields of the header have the name %s; --columns gives them different names", quoteIf(name))}
			}
		}
	}
	return list, nil
}

// orderOf returns, for each field of the first file's header, its place in another header; nil
// unless both have the same names, each once.
func (c *spec) orderOf(header []byte) []int {
	fields, _, err := c.Dialect.Fields(header, nil, nil)
	want, got := namesOf(c.sample[0]), namesOf(fields)
	if err != nil || len(got) != len(want) {
		return nil
	}
	var order []int
	for _, n := range want {
		i := slices.Index(got, n)
		if i < 0 || slices.Contains(order, i) {
			return nil
		}
		order = append(order, i)
	}
	return order
}

// usedIn reports whether an expression may use the field with that name.
func usedIn(set []commit.Assignment, name string) bool {
	at := regexp.MustCompile(`(?i)(^|[^\pL\pN_])` + regexp.QuoteMeta(name) + `($|[^\pL\pN_])`)
	return slices.ContainsFunc(set, func(a commit.Assignment) bool { return at.MatchString(a.Expr) })
}

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
	if found != nil {
		return found
	}
	for i := range t.Columns {
		if sameName(t.Columns[i].Name, name) {
			if found != nil {
				return nil
			}
			found = &t.Columns[i]
		}
	}
	return found
}

// writable returns the names of the columns that a load may write, in order.
func writable(t *server.Table) []string {
	var names []string
	for _, c := range t.Columns {
		if !c.Generated && !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

// quoteIf quotes a name with unusual characters.
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

// suggest returns a hint for the unknown name of a column.
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
		return fmt.Sprintf("; did you mean --map %s=%s?", quoteIf(field), best)
	case best != "":
		return fmt.Sprintf("; did you mean %s?", best)
	case field != "":
		return fmt.Sprintf("; it has %s; --map %s= drops the field", strings.Join(writable(t), ", "), quoteIf(field))
	}
	return fmt.Sprintf("; it has %s", strings.Join(writable(t), ", "))
}

// distance is the number of characters to insert, delete or replace (Levenshtein distance).
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
