package files

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
)

// unsure returns why a look-up cannot prove that the files' rows are in the table as written;
// empty if it can.
func (d *Dataset) unsure() string {
	t := d.table
	switch {
	case d.keys() == nil:
		return fmt.Sprintf("needs the whole primary key of %s in the file: (%s)", t.Display(), strings.Join(t.Primary, ", "))
	case slices.ContainsFunc(d.spec.Files, func(f File) bool { return f.Once }):
		return readAgain
	case len(d.spec.Set) > 0:
		return computed
	}
	if why := dataset.UnsureTable(t); why != "" {
		return why
	}
	return dataset.UnsureColumns(t, d.info.Product, d.columns())
}

// columns returns the columns that fields go into.
func (d *Dataset) columns() (list []string) {
	for _, f := range d.spec.Fields {
		if f.Column {
			list = append(list, f.Name)
		}
	}
	return list
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
// reads nothing of the table, and asks in the same round trip when a new load began.
func (d *Dataset) unsureKeys(ctx context.Context, o *dataset.Opening) (string, error) {
	opts := d.Options()
	opts.Table, opts.Mode, opts.Method = d.table.Name, d.choice.Mode, d.choice.Method
	return dataset.UnsureKeys(ctx, o, opts, &d.spec.Began)
}
