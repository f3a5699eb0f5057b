package commit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// fromText reports whether the rows are texts that SQL casts to the columns' types.
func (o *Options) fromText() bool {
	return slices.ContainsFunc(o.Columns, func(c rows.Column) bool { return c.Kind == rows.Text && c.Type != "" })
}

// columnsNamed returns columns of these names, for list.
func columnsNamed(names []string) []rows.Column {
	list := make([]rows.Column, len(names))
	for i, n := range names {
		list[i].Name = n
	}
	return list
}

// records returns the FROM item whose rows are those of the chunk, cast, under the
// columns' names, as csv.
func (o *Options) records() string {
	var casts, names []string
	for i, c := range o.Columns {
		name := fmt.Sprintf("f%d", i+1)
		names = append(names, name)
		casts = append(casts, castTo(name, c.Type)+" AS "+pgx.Identifier{c.Name}.Sanitize())
	}
	return fmt.Sprintf("(SELECT %s FROM %s AS record (%s)) AS csv", strings.Join(casts, ", "), unnest(o.Columns, 1), strings.Join(names, ", "))
}

// suspectText returns the query of the numbers, from 1, of the records with a value that
// cannot be cast to its column's type; empty where there is no cast.
func (o *Options) suspectText() string {
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
	return fmt.Sprintf("SELECT n FROM %s WITH ORDINALITY AS record (%s, n) WHERE %s", unnest(o.Columns, 1), strings.Join(names, ", "), strings.Join(bad, " OR "))
}

// castTo returns the cast of a text; CockroachDB's collated strings have a syntax of
// their own.
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

// store returns what goes into which column.
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

// insertText returns the INSERT of rows of text.
func (o *Options) insertText() string {
	var columns, exprs []string
	for _, a := range o.store() {
		columns = append(columns, pgx.Identifier{a.Column}.Sanitize())
		exprs = append(exprs, a.Expr)
	}
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s", o.Table.Sanitize(), strings.Join(columns, ", "), strings.Join(exprs, ", "), o.records())
}

// onConflictUpdate returns the clause that gives a row with the same key the values of
// the new one.
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

// joined returns the FROM clause that puts beside each record the table's row of its
// key, as t. CockroachDB is told to look the keys up: its planner knows nothing of the
// records, and may read the whole table instead.
func (o *Options) joined(product server.Product) string {
	join := "LEFT JOIN"
	if product == server.CockroachDB {
		join = "LEFT LOOKUP JOIN"
	}
	var on []string
	for _, k := range o.Keys {
		name := pgx.Identifier{k}.Sanitize()
		on = append(on, fmt.Sprintf("t.%s = csv.%s", name, name))
	}
	return fmt.Sprintf("FROM %s %s %s AS t ON %s", o.records(), join, o.Table.Sanitize(), strings.Join(on, " AND "))
}

// same returns the condition that the table's row has the values of the record.
func (o *Options) same() string {
	there := fmt.Sprintf("t.%s IS NOT NULL", pgx.Identifier{o.Keys[0]}.Sanitize())
	conditions := []string{there}
	for _, c := range o.Columns {
		name := pgx.Identifier{c.Name}.Sanitize()
		if slices.Contains(o.Keys, c.Name) {
			continue
		}
		as := ""
		if strings.EqualFold(c.Type, "json") { // has no equality
			as = "::TEXT"
		}
		conditions = append(conditions, fmt.Sprintf("t.%s%s IS NOT DISTINCT FROM csv.%s%s", name, as, name, as))
	}
	return strings.Join(conditions, " AND ")
}

// compareText returns the query that counts records whose key is there, and those
// whose content is there too.
func (o *Options) compareText(product server.Product) string {
	return fmt.Sprintf("SELECT count(t.%s), count(*) FILTER (WHERE %s) %s", pgx.Identifier{o.Keys[0]}.Sanitize(), o.same(), o.joined(product))
}

func (o *Options) presentText(product server.Product) string {
	return fmt.Sprintf("SELECT count(t.%s) %s", pgx.Identifier{o.Keys[0]}.Sanitize(), o.joined(product))
}

// findText is find for rows of text, whose values only the server can compare.
func (c *Committer) findText(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk) (finding, error) {
	var f finding
	var present int
	if err := conn.QueryRow(ctx, c.sql.compare, args(chunk)...).Scan(&present, &f.ours); err != nil {
		return f, err
	}
	f.foreign = present - f.ours
	f.missing = chunk.Len() - present
	if f.foreign > 0 {
		f.firstForeign = "(" + strings.Join(c.Keys, ", ") + ")"
	}
	return f, nil
}

// VerifyText counts the rows of a chunk of text that the table has with all their
// values, and those that it has with others.
func (c *Committer) VerifyText(ctx context.Context, chunk *rows.Chunk) (Verdict, error) {
	v := Verdict{First: -1}
	if chunk.Len() == 0 {
		return v, nil
	}
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return v, err
	}
	defer conn.Release()
	f, err := c.findText(ctx, conn.Conn(), chunk)
	v.Same, v.Changed, v.Missing = int64(f.ours), int64(f.foreign), int64(f.missing)
	if v.Changed+v.Missing > 0 {
		v.First = chunk.Span.First
	}
	return v, err
}
