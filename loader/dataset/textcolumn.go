package dataset

import (
	"fmt"
	"strconv"
	"strings"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// TextColumn returns a chunk's column whose texts go into the table's column c.
func TextColumn(c *server.Column, p server.Product) rows.Column {
	return rows.Column{Name: c.Name, Kind: rows.Text, Type: castType(c, p), Stored: storedAs(c, p), Collation: c.Collation}
}

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

// UnsureType returns why the values of a column cannot be compared with the texts they come
// from.
func UnsureType(c *server.Column, p server.Product, key bool) string {
	typ := typeOf(c, p)
	base, mod, ok := strings.Cut(typ, "(")
	array := strings.HasSuffix(typ, "]")
	switch name := strings.ToLower(strings.TrimSuffix(base, "[]")); {
	case name == "money":
		return "whose text depends on the server's lc_monetary"
	// CockroachDB rounds stored elements differently from a cast (seen on 21.1).
	case array && ok && (p == server.CockroachDB || strings.Contains(name, "char") || name == "bit"):
		return fmt.Sprintf("whose elements are truncated to (%s", strings.TrimSuffix(mod, "[]"))
	case key && p == server.CockroachDB && (name == "interval" || array || !ok && (name == "decimal" || name == "numeric")):
		return "where different texts can be equal"
	case key && c.Nondeterministic:
		return fmt.Sprintf("whose collation %s treats different texts as equal", c.Collation)
	case key && p == server.CockroachDB && strings.Contains(strings.ToUpper(typ), "COLLATE"):
		return "whose collation treats different texts as equal"
	}
	return ""
}

// NotImported returns why IMPORT cannot write columns of texts; empty if it can. Names that are no
// columns do not matter. Seen on 21.1 and 26.1: its readers take an array for an SQL expression, and
// refuse the text {1,2} of one.
func NotImported(t *server.Table, names []string) string {
	for _, name := range names {
		switch c := t.Column(name); {
		case c == nil:
		case c.Hidden:
			return fmt.Sprintf("column %s is hidden", name)
		case strings.HasSuffix(c.SQLType, "[]"):
			return fmt.Sprintf("column %s is %s, and IMPORT does not read the text of an array", name, c.SQLType)
		}
	}
	return ""
}
