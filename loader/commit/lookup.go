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

// ordinal is the number of a record in the chunk, from 1. Its name has a blank, so that no
// expression of --set means it.
const ordinal = `"loader ordinal"`

// stored returns the FROM item whose rows are those of the chunk, with the values that the
// table's columns keep of the texts, under the columns' names, as csv; and with ordinal.
func (o *Options) stored() string {
	var values, names []string
	for i, c := range o.Columns {
		name := fmt.Sprintf("f%d", i+1)
		names = append(names, name)
		values = append(values, storedValue(name, c)+" AS "+pgx.Identifier{c.Name}.Sanitize())
	}
	return fmt.Sprintf("(SELECT %s, n AS %s FROM %s WITH ORDINALITY AS record (%s, n)) AS csv",
		strings.Join(values, ", "), ordinal, unnest(o.Columns, 1), strings.Join(names, ", "))
}

// storedValue returns the value that a column keeps of a text, compared as the column
// compares.
func storedValue(name string, c rows.Column) string {
	value := castTo(name, c.Type)
	if c.Stored != "" {
		value = strings.ReplaceAll(c.Stored, "%s", name)
	}
	if c.Collation != "" {
		value += " COLLATE " + c.Collation
	}
	return value
}

// keysOf returns the columns of the key in a FROM item.
func (o *Options) keysOf(item string) string {
	var list []string
	for _, k := range o.Keys {
		list = append(list, item+"."+pgx.Identifier{k}.Sanitize())
	}
	return strings.Join(list, ", ")
}

// joined returns the FROM clause that puts beside each record the table's row of its
// key, as t. CockroachDB is told to look the keys up: its planner knows nothing of the
// records, and may read the whole table instead.
func (o *Options) joined(product server.Product, records string) string {
	join := "LEFT JOIN"
	if product == server.CockroachDB {
		join = "LEFT LOOKUP JOIN"
	}
	var on []string
	for _, k := range o.Keys {
		name := pgx.Identifier{k}.Sanitize()
		on = append(on, fmt.Sprintf("t.%s = csv.%s", name, name))
	}
	return fmt.Sprintf("FROM %s %s %s AS t ON %s", records, join, o.Table.Sanitize(), strings.Join(on, " AND "))
}

// there returns the condition that the table has a row of the record's key.
func (o *Options) there(product server.Product) string {
	if product == server.PostgreSQL {
		return "t.tableoid IS NOT NULL"
	}
	return fmt.Sprintf("t.%s IS NOT NULL", pgx.Identifier{o.Keys[0]}.Sanitize())
}

// formatMost is the number of values of one call of format: a function has at most 100
// arguments (PostgreSQL, FUNC_MAX_ARGS).
const formatMost = 90

// same returns the condition that the table's row holds what the record would have made of
// it, and not only what equals that: KEY1 is not key1 in a citext, nor 1.0 1.00. PostgreSQL
// compares the texts that the types' own output functions give, byte for byte; CockroachDB
// both values and texts, since the texts of floats may be rounded.
func (o *Options) same(product server.Product) string {
	conditions := []string{o.there(product)}
	if product == server.CockroachDB {
		for _, c := range o.Columns {
			name := pgx.Identifier{c.Name}.Sanitize()
			conditions = append(conditions, fmt.Sprintf("t.%s IS NOT DISTINCT FROM csv.%s", name, name),
				fmt.Sprintf("t.%s::STRING IS NOT DISTINCT FROM csv.%s::STRING", name, name))
		}
		return strings.Join(conditions, " AND ")
	}
	for columns := range slices.Chunk(o.Columns, formatMost) {
		var stored, written []string
		for _, c := range columns {
			name := pgx.Identifier{c.Name}.Sanitize()
			stored, written = append(stored, "t."+name), append(written, "csv."+name)
		}
		form := "'" + strings.Repeat("%L,", len(columns)) + "'"
		conditions = append(conditions, fmt.Sprintf(`format(%s, %s) COLLATE "C" = format(%s, %s) COLLATE "C"`,
			form, strings.Join(stored, ", "), form, strings.Join(written, ", ")))
	}
	return strings.Join(conditions, " AND ")
}

// compareText returns the query that counts records whose key is there, and those
// whose content is there too.
func (o *Options) compareText(product server.Product) string {
	return fmt.Sprintf("SELECT count(*) FILTER (WHERE %s), count(*) FILTER (WHERE %s) %s", o.there(product), o.same(product), o.joined(product, o.stored()))
}

// presentText returns the query that counts the different keys of the records, and those of
// them that are not there.
func (o *Options) presentText(product server.Product) string {
	keys := fmt.Sprintf("(SELECT DISTINCT %s FROM %s) AS csv", o.keysOf("csv"), o.stored())
	return fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE NOT (%s)) %s", o.there(product), o.joined(product, keys))
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
