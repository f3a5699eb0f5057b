package files

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
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
	m := mapping{spec: c, table: t, request: f, given: map[string]string{}}
	for i, target := range targets {
		m.mapField(i, target)
	}
	for name := range f.Map {
		if !slices.Contains(c.names, name) {
			m.flagFault("--map names field %s, but the file has %s", quoteIf(name), strings.Join(c.names, ", "))
		}
	}
	for i := range c.Set {
		m.mapSet(&c.Set[i])
	}
	m.checkComplete()
	return m.err()
}

// A mapping collects which field or flag supplies each column, and all faults.
type mapping struct {
	*spec
	table   *server.Table
	request *Request
	given   map[string]string // column → the field or flag that supplies it
	faults  []string
	flags   bool // a flag is at fault
}

func (m *mapping) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (m *mapping) flagFault(format string, args ...any) {
	m.flags = true
	m.fault(format, args...)
}

// mapField maps field i. target is the column with its name, or nil.
func (m *mapping) mapField(i int, target *server.Column) {
	name := m.names[i]
	column, mapped := m.request.Map[name]
	if mapped && column == "" {
		return
	}
	if !mapped {
		column = name
	}
	feeds := usedIn(m.Set, name)
	if target != nil && feeds && slices.ContainsFunc(m.Set, func(a commit.Assignment) bool { return columnOf(m.table, a.Column) == target }) {
		target = nil // the field is an input of the column's expression
	}
	switch {
	case target == nil && !mapped && feeds:
		m.Fields = append(m.Fields, mappedField{Field: i, Name: name})
	case target == nil && mapped && usedIn(m.Set, column):
		m.Fields = append(m.Fields, mappedField{Field: i, Name: column})
	case target == nil:
		m.flags = m.flags || mapped
		m.fault("%s has no column %s%s", m.table.Display(), quoteIf(column), suggest(column, m.table, name))
	case target.Generated:
		m.fault("column %s is computed by the database; leave it out with --map %s=", target.Name, name)
	case m.given[target.Name] != "":
		m.fault("column %s is set twice, by %s and by field %s", target.Name, m.given[target.Name], quoteIf(name))
	default:
		m.given[target.Name] = "field " + quoteIf(name)
		m.Fields = append(m.Fields, mappedField{Field: i, Name: target.Name, Column: true})
	}
}

// mapSet finds the column of an assignment, and gives it the column's exact name.
func (m *mapping) mapSet(a *commit.Assignment) {
	target := columnOf(m.table, a.Column)
	switch {
	case target == nil:
		m.flagFault("--set names column %s, but %s does not have it%s", quoteIf(a.Column), m.table.Display(), suggest(a.Column, m.table, ""))
		return
	case target.Generated:
		m.flagFault("--set names column %s, which is computed by the database", target.Name)
	case m.given[target.Name] != "":
		m.flagFault("column %s is set twice, by %s and by --set", target.Name, m.given[target.Name])
	}
	a.Column = target.Name
	m.given[target.Name] = "--set"
}

// checkComplete finds columns that need a value and get none.
func (m *mapping) checkComplete() {
	for _, col := range m.table.Columns {
		if m.given[col.Name] == "" && col.NotNull && !col.Default && !col.Generated && len(m.faults) == 0 {
			m.fault("column %s of %s is NOT NULL without a default, and no field goes into it; --set %s=EXPRESSION sets it", col.Name, m.table.Display(), col.Name)
		}
	}
	if len(m.faults) == 0 && !slices.ContainsFunc(m.Fields, func(f mappedField) bool { return f.Column }) && len(m.Set) == 0 {
		m.fault("no field goes into %s", m.table.Display())
	}
}

// err returns the faults as a *dataset.TableError, or nil.
func (m *mapping) err() error {
	if len(m.faults) == 0 {
		return nil
	}
	slices.Sort(m.faults)
	if n := len(m.faults); n > maxFaults {
		m.faults = append(m.faults[:maxFaults], fmt.Sprintf("and %d more", n-maxFaults))
	}
	return &dataset.TableError{Reason: strings.Join(m.faults, "; "), Flags: m.flags}
}

// maxFaults bounds an error about a header of many fields. maxName, in bytes, bounds one about
// an invalid name, perhaps the result of a missing quote.
const (
	maxFaults = 10
	maxName   = 100
)

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
	best, limit := "", 1+len(name)/3
	if len(name) > maxName {
		limit = -1
	}
	for _, c := range writable(t) {
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d <= limit {
			best, limit = c, d-1
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
