package commit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// fromText reports whether the rows are texts that SQL casts to column types.
func (o *Options) fromText() bool {
	return slices.ContainsFunc(o.Columns, func(c rows.Column) bool { return c.Kind == rows.Text && c.Type != "" })
}

// columnsNamed returns columns with these names, for list.
func columnsNamed(names []string) []rows.Column {
	list := make([]rows.Column, len(names))
	for i, n := range names {
		list[i].Name = n
	}
	return list
}

// records returns a FROM item named csv. Its rows are the chunk's, cast, and its columns have
// the chunk's names.
func (o *Options) records() string {
	var casts, names []string
	for i, c := range o.Columns {
		name := fmt.Sprintf("f%d", i+1)
		names = append(names, name)
		casts = append(casts, castTo(name, c.Type)+" AS "+pgx.Identifier{c.Name}.Sanitize())
	}
	return fmt.Sprintf("(SELECT %s FROM %s AS record (%s)) AS csv", strings.Join(casts, ", "), o.unnest(), strings.Join(names, ", "))
}

// misfitsText returns a query for the numbers, from 1, of records with a value that cannot be
// cast to its column's type. It is empty if no column is cast.
func (o *Options) misfitsText() string {
	var names, bad []string
	for i, c := range o.Columns {
		name := fmt.Sprintf("f%d", i+1)
		names = append(names, name)
		if c.Type != "" {
			bad = append(bad, fmt.Sprintf("iserror(%s)", castTo(name, c.Type)))
		}
	}
	if len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf("SELECT n FROM %s WITH ORDINALITY AS record (%s, n) WHERE %s", o.unnest(), strings.Join(names, ", "), strings.Join(bad, " OR "))
}

// castTo returns the cast of a text. CockroachDB's collated strings need a syntax of their own.
func castTo(name, typ string) string {
	if typ == "" {
		return name
	}
	base, collation, ok := strings.Cut(typ, " COLLATE ")
	cast := fmt.Sprintf("CAST(%s AS %s)", name, base)
	if ok {
		cast = fmt.Sprintf("(%s COLLATE %s)", cast, collation)
	}
	return cast
}

// Literal returns an SQL expression for a text that is cast to a type, as the rows of a chunk are.
func Literal(text, typ string) string { return castTo(server.QuoteLiteral(text), typ) }

// store returns the assignments of the table's columns.
func (o *Options) store() []Assignment {
	if o.Store != nil {
		return o.Store
	}
	list := make([]Assignment, len(o.Columns))
	for i, c := range o.Columns {
		list[i] = Assignment{c.Name, pgx.Identifier{c.Name}.Sanitize()}
	}
	return list
}

// insertText returns the INSERT for rows of text.
func (o *Options) insertText() string {
	var columns, exprs []string
	for _, a := range o.store() {
		columns = append(columns, pgx.Identifier{a.Column}.Sanitize())
		exprs = append(exprs, a.Expr)
	}
	overriding, records := "", o.records()
	if o.Overriding {
		overriding = " OVERRIDING SYSTEM VALUE"
	}
	if o.Conflict != "" {
		records = o.oneOfAKey()
	}
	return fmt.Sprintf("INSERT INTO %s (%s)%s SELECT %s FROM %s", o.Table.Sanitize(), strings.Join(columns, ", "), overriding, strings.Join(exprs, ", "), records)
}

// oneOfAKey is records with one record per key: the last one for UpdateRow, the first one for
// SkipRow. The server decides which keys are equal, from the values that the columns store. One
// record per key is necessary: INSERT … ON CONFLICT DO UPDATE refuses to update a row twice,
// and DO NOTHING may take any of several records.
func (o *Options) oneOfAKey() string {
	var values, names, fields, keys []string
	for i, c := range o.Columns {
		field, name := fmt.Sprintf("f%d", i+1), pgx.Identifier{c.Name}.Sanitize()
		fields, names = append(fields, field), append(names, name)
		values = append(values, castTo(field, c.Type)+" AS "+name)
		if slices.Contains(o.Keys, c.Name) {
			key := fmt.Sprintf(`"loader key %d"`, len(keys)+1)
			values, keys = append(values, storedValue(field, c)+" AS "+key), append(keys, key)
		}
	}
	order := ordinal
	if o.Conflict == UpdateRow {
		order += " DESC"
	}
	return fmt.Sprintf("(SELECT DISTINCT ON (%s) %s FROM (SELECT %s, n AS %s FROM %s WITH ORDINALITY AS record (%s, n)) AS csv ORDER BY %s, %s) AS csv",
		strings.Join(keys, ", "), strings.Join(names, ", "), strings.Join(values, ", "), ordinal, o.unnest(), strings.Join(fields, ", "),
		strings.Join(keys, ", "), order)
}

// updates reports whether existing rows get new values. They get none if the rows contain only
// the key.
func (o *Options) updates() bool {
	return o.Conflict == UpdateRow && slices.ContainsFunc(o.store(), func(a Assignment) bool { return !slices.Contains(o.Keys, a.Column) })
}

// onConflictUpdate returns the clause that updates an existing row with the values of the new
// one.
func (o *Options) onConflictUpdate() string {
	var set []string
	for _, a := range o.store() {
		if !slices.Contains(o.Keys, a.Column) {
			name := pgx.Identifier{a.Column}.Sanitize()
			set = append(set, name+" = excluded."+name)
		}
	}
	clause := fmt.Sprintf(" ON CONFLICT (%s) DO ", list(columnsNamed(o.Keys)))
	if len(set) == 0 {
		return clause + "NOTHING"
	}
	return clause + "UPDATE SET " + strings.Join(set, ", ")
}
