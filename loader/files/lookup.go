package files

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// typeOf returns the type of a column as its server prints it. For a domain it returns the type
// below.
func typeOf(c *server.Column, p server.Product) string {
	switch {
	case p == server.CockroachDB:
		return c.SQLType
	case c.Base != "":
		return c.Base
	}
	return c.Type
}

// storedAs returns the SQL expression of the value that a column stores for a text; %s stands
// for the text. Empty: the cast to castType returns it. A text that is too long for the column
// stays unchanged: no row holds it.
//
// Note: a cast to the column's type would cut a value that an assignment refuses.
func storedAs(c *server.Column, p server.Product) string {
	typ := typeOf(c, p)
	base, mod, ok := strings.Cut(typ, "(")
	array := strings.HasSuffix(typ, "[]")
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSuffix(mod, "[]"), ")"))
	length := ok && err == nil && !array
	if p == server.CockroachDB {
		switch upper := strings.ToUpper(base); {
		case upper == "CHAR" || upper == "CHARACTER" || upper == "BPCHAR":
			return "rtrim(%s, ' ')"
		case !ok, strings.Contains(upper, "CHAR"), strings.Contains(upper, "STRING"), strings.Contains(upper, "BIT"), strings.Contains(upper, "TEXT"):
			return ""
		}
		return "CAST(%s AS " + typ + ")"
	}
	// An assignment cuts blanks beyond the length, and refuses other characters there.
	const fits = "char_length(rtrim(%%s, ' ')) <= %d"
	switch {
	case base == "character varying" && length:
		return fmt.Sprintf("CASE WHEN "+fits+" THEN CAST(left(%%s, %d) AS pg_catalog.varchar) ELSE CAST(%%s AS pg_catalog.varchar) END", n, n)
	case base == "character" && length:
		return fmt.Sprintf("CASE WHEN "+fits+" THEN CAST(left(%%s, %d) AS pg_catalog.bpchar(%d)) ELSE CAST(%%s AS pg_catalog.bpchar) END", n, n, n)
	case base == "bit":
		return `CAST(%s AS pg_catalog."bit")` // without a length it cuts nothing
	case !ok, base == "bit varying":
		return ""
	}
	return "CAST(%s AS " + typ + ")"
}

// unsure returns why a look-up cannot prove that the files' rows are in the table as written;
// empty if it can.
func (d *Dataset) unsure() string {
	t := d.table
	switch {
	case d.keys() == nil:
		return fmt.Sprintf("needs the whole primary key of %s in the file: (%s)", t.Display(), strings.Join(t.Primary, ", "))
	case t.Deferrable:
		return fmt.Sprintf("cannot tell which rows are in: the primary key of %s is deferrable", t.Display())
	case len(t.OnInsert) > 0:
		return fmt.Sprintf("cannot tell which rows are in: trigger %s of %s may change them", strings.Join(t.OnInsert, ", "), t.Display())
	case t.Rules:
		return fmt.Sprintf("cannot tell which rows are in: %s has rules, which may change them", t.Display())
	case t.RowSecurity:
		return fmt.Sprintf("cannot tell which rows are in: row-level security of %s may hide them", t.Display())
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
		if why := unsureType(c, d.info.Product, slices.Contains(t.Primary, c.Name)); why != "" {
			return fmt.Sprintf("cannot tell which rows are in: column %s is %s, %s", pgx.Identifier{c.Name}.Sanitize(), c.Type, why)
		}
	}
	return ""
}

// unsureRepeats returns why the server cannot compare the keys of two records; empty if it can.
func (d *Dataset) unsureRepeats() string {
	for _, k := range d.keys() {
		if why := unsureType(d.table.Column(k), d.info.Product, true); why != "" {
			return fmt.Sprintf("column %s has values %s", pgx.Identifier{k}.Sanitize(), why)
		}
	}
	return ""
}

// unsureType returns why the values of a column cannot be compared with the texts they come
// from.
func unsureType(c *server.Column, p server.Product, key bool) string {
	typ := typeOf(c, p)
	base, mod, ok := strings.Cut(typ, "(")
	array := strings.HasSuffix(typ, "]")
	switch name := strings.ToLower(strings.TrimSuffix(base, "[]")); {
	case name == "money":
		return "whose text depends on the server's lc_monetary"
	// CockroachDB rounds stored elements differently from a cast (seen on 21.1).
	case array && ok && (p == server.CockroachDB || strings.Contains(name, "char") || name == "bit"):
		return fmt.Sprintf("whose elements are cut to (%s", strings.TrimSuffix(mod, "[]"))
	case key && p == server.CockroachDB && (name == "interval" || array || !ok && (name == "decimal" || name == "numeric")):
		return "of which some are equal that are not the same"
	case key && c.Nondeterministic:
		return fmt.Sprintf("whose collation %s takes texts for equal that are not the same", c.Collation)
	case key && p == server.CockroachDB && strings.Contains(strings.ToUpper(typ), "COLLATE"):
		return "whose collation takes texts for equal that are not the same"
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
		return "cannot tell which rows are in: " + server.Reason(err), nil
	}
	return "", err
}
