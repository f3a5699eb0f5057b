package files

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/server"
)

// castType returns the type to which SQL casts a column's text: the column's type, or the type
// below its domain, without length or precision. A cast with length or precision would cut
// values that the column refuses; COPY would not cut them.
func castType(c *server.Column, p server.Product) string {
	t := typeOf(c, p)
	for {
		open := strings.IndexByte(t, '(')
		if open < 0 {
			break
		}
		n := strings.IndexByte(t[open:], ')')
		if n < 0 {
			break
		}
		t = t[:open] + t[open+n+1:]
	}
	// Without a length, these two types have length 1.
	switch base, array := strings.TrimSuffix(t, "[]"), strings.HasSuffix(t, "[]"); strings.ToLower(base) {
	case "bit":
		t = "varbit"
		if array {
			t += "[]"
		}
	case "character", "char":
		t = "pg_catalog.bpchar"
		if p == server.CockroachDB {
			t = "STRING"
		}
		if array {
			t += "[]"
		}
	}
	return t
}

// store returns the assignments of a load of files; nil if each field goes into the column with
// its name.
func (d *Dataset) store() []commit.Assignment {
	c := d.spec
	if len(c.Set) == 0 {
		return nil
	}
	var list []commit.Assignment
	for _, f := range c.Fields {
		if f.Column {
			list = append(list, commit.Assignment{Column: f.Name, Expr: "csv." + pgx.Identifier{f.Name}.Sanitize()})
		}
	}
	return append(list, c.Set...)
}

// unescaped returns a column whose values may hold a backslash or a tab that COPY would change;
// nil if there is none. Seen on 21.1.5: COPY undoes the escapes of its text format only for
// strings, bytes, UUIDs and times, so that "\n" in a JSONB arrives as "\\n".
func (d *Dataset) unescaped() *server.Column {
	if d.info.Product != server.CockroachDB {
		return nil
	}
	for _, f := range d.spec.Fields {
		c := d.table.Column(f.Name)
		if !f.Column {
			continue
		}
		base, _, _ := strings.Cut(c.SQLType, "(")
		switch t := strings.ToUpper(base); {
		case strings.HasSuffix(c.SQLType, "]"), strings.Contains(t, "COLLATE"), t == "JSONB", c.Labels > 0,
			t == "GEOMETRY", t == "GEOGRAPHY", t == "TSVECTOR", t == "TSQUERY":
			return c
		}
	}
	return nil
}
