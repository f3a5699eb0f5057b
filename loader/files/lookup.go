package files

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// unsure returns why a look-up cannot prove that the files' rows are in the table as written;
// empty if it can.
func (d *Dataset) unsure() string {
	t := d.table
	switch {
	case d.keys() == nil:
		return fmt.Sprintf("needs the whole primary key of %s in the file: (%s)", t.Display(), strings.Join(t.Primary, ", "))
	case t.Deferrable:
		return fmt.Sprintf("cannot tell which rows are loaded: the primary key of %s is deferrable", t.Display())
	case len(t.OnInsert) > 0:
		return fmt.Sprintf("cannot tell which rows are loaded: trigger %s of %s may change them", strings.Join(t.OnInsert, ", "), t.Display())
	case t.Rules:
		return fmt.Sprintf("cannot tell which rows are loaded: %s has rules, which may change them", t.Display())
	case t.RowSecurity:
		return fmt.Sprintf("cannot tell which rows are loaded: row-level security of %s may hide them", t.Display())
	case slices.ContainsFunc(d.spec.Files, func(f File) bool { return f.Once }):
		return readAgain
	case len(d.spec.Set) > 0:
		return computed
	}
	for _, f := range d.spec.Fields {
		c := t.Column(f.Name)
		if !f.Column || c == nil {
			continue
		}
		if why := dataset.UnsureType(c, d.info.Product, slices.Contains(t.Primary, c.Name)); why != "" {
			return fmt.Sprintf("cannot tell which rows are loaded: column %s is %s, %s", pgx.Identifier{c.Name}.Sanitize(), c.Type, why)
		}
	}
	return ""
}

// unsureRepeats returns why the server cannot compare the keys of two records; empty if it can.
func (d *Dataset) unsureRepeats() string {
	for _, k := range d.keys() {
		if why := dataset.UnsureType(d.table.Column(k), d.info.Product, true); why != "" {
			return fmt.Sprintf("column %s has values %s", pgx.Identifier{k}.Sanitize(), why)
		}
	}
	return ""
}

// unsureKeys returns why the server cannot compare the keys of two records; empty if it can. It
// reads nothing of the table.
func (d *Dataset) unsureKeys(ctx context.Context, o *dataset.Opening) (string, error) {
	opts := d.Options()
	opts.Table, opts.Mode, opts.Method = d.table.Name, d.choice.Mode, d.choice.Method
	committer, err := commit.New(o.DB, d.info, opts)
	if err != nil {
		return "", &dataset.TableError{Reason: err.Error()}
	}
	err = committer.CheckKeys(ctx)
	if err != nil && server.Classify(err) == server.Permanent {
		return "cannot tell which rows are loaded: " + server.Reason(err), nil
	}
	return "", err
}
