package files

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// createDDL returns a CREATE TABLE statement with types that fit the files, and its columns. It
// decides whether the first record is a header, and judges the other records.
func (d *Dataset) createDDL(ctx context.Context, p server.Product, name pgx.Identifier) (string, []server.Column, error) {
	c, f := d.spec, &d.Request
	if len(c.sample) == 0 {
		return "", nil, &dataset.TableError{Reason: "--create-table needs a file with records"}
	}
	if err := c.settle(nil, f); err != nil {
		return "", nil, err
	}
	if err := c.readHeader(ctx, d, nil); err != nil {
		return "", nil, err
	}
	columns, all, err := c.judged(ctx, d.input)
	if err != nil {
		return "", nil, err
	}
	// A column without name and values comes from a delimiter at the end of each record.
	if last := len(c.names) - 1; last > 0 && c.names[last] == "" && !columns[last].any {
		c.Tail = true
		c.Width--
		c.names, columns = c.names[:last], columns[:last]
	}
	limit := maxNameBytes
	if p == server.CockroachDB {
		limit = math.MaxInt // it has no limit of its own
	}
	c.made = usable(c.names, limit)
	var defs, given []string
	var list []server.Column
	forms := formsOf(columns)
	said := map[string]bool{}
	for i, n := range c.made {
		to, mapped := f.Map[c.names[i]]
		if mapped {
			n = to
		} else if n != c.names[i] {
			d.note(fmt.Sprintf("field %d, %s, is loaded into column %s; --map names another column", i+1, quoteIf(c.names[i]), quoteIf(n)))
		}
		if c.made[i] = n; n == "" {
			continue
		}
		t := forms[i].sqlType(p)
		said[n] = true
		if x, ok := f.Types[n]; ok {
			t, forms[i] = x, 0
		} else if f.Text {
			t, forms[i] = Form(0).sqlType(p), 0
		}
		given = append(given, n)
		defs = append(defs, pgx.Identifier{n}.Sanitize()+" "+t)
		list = append(list, server.Column{Name: n, Type: strings.ToLower(t), SQLType: t, NotNull: slices.Contains(f.Key, n)})
	}
	for n := range f.Types {
		if !said[n] {
			return "", nil, dataset.Contradict("--types names %s, but the file has %s", quoteIf(n), strings.Join(given, ", "))
		}
	}
	for _, k := range f.Key {
		if !said[k] {
			return "", nil, &dataset.TableError{Reason: fmt.Sprintf("--key names %s, but the file has %s", quoteIf(k), strings.Join(given, ", "))}
		}
	}
	if !all && slices.ContainsFunc(forms, func(f Form) bool { return f != 0 }) {
		c.Expected = forms
	}
	if len(f.Key) > 0 {
		quoted := make([]string, len(f.Key))
		for i, k := range f.Key {
			quoted[i] = pgx.Identifier{k}.Sanitize()
		}
		defs = append(defs, "PRIMARY KEY ("+strings.Join(quoted, ", ")+")")
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s)", name.Sanitize(), strings.Join(defs, ", ")), list, nil
}
