package files

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/server"
)

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
