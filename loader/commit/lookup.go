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

// ordinal is the number of a record in the chunk, from 1. The name contains a space, so that no
// expression of --set refers to it by accident.
const ordinal = `"loader ordinal"`

// stored returns a FROM item named csv with the rows of the chunk. Its columns have the chunk's
// names and the values that the table would store; another column is ordinal.
func (o *Options) stored() string {
	var values, names []string
	for i, c := range o.Columns {
		name := fmt.Sprintf("f%d", i+1)
		names = append(names, name)
		values = append(values, storedValue(name, c)+" AS "+pgx.Identifier{c.Name}.Sanitize())
	}
	return fmt.Sprintf("(SELECT %s, n AS %s FROM %s WITH ORDINALITY AS record (%s, n)) AS csv",
		strings.Join(values, ", "), ordinal, o.unnest(), strings.Join(names, ", "))
}

// storedValue returns the value that a column stores for a text, with the column's collation.
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

// keysOf returns the key columns of a FROM item.
func (o *Options) keysOf(item string) string {
	var list []string
	for _, k := range o.Keys {
		list = append(list, item+"."+pgx.Identifier{k}.Sanitize())
	}
	return strings.Join(list, ", ")
}

// joined returns the FROM clause that joins each record with the table row of the same key,
// named t. On CockroachDB it forces a lookup join: the planner has no statistics for the
// records and might scan the whole table.
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

// there returns the condition that the table has a row with the record's key.
func (o *Options) there(product server.Product) string {
	if product == server.PostgreSQL {
		return "t.tableoid IS NOT NULL"
	}
	return fmt.Sprintf("t.%s IS NOT NULL", pgx.Identifier{o.Keys[0]}.Sanitize())
}

// maxFormatArgs is the number of values in one call of format: a function has at most 100
// arguments (PostgreSQL, FUNC_MAX_ARGS).
const maxFormatArgs = 90

// same returns the condition that the table row is identical to the row that the record would
// produce. Equality is not enough: in a citext KEY1 equals key1, and 1.0 equals 1.00.
// PostgreSQL compares the output texts of the types byte for byte. CockroachDB compares both
// values and texts, since the texts of floats may be rounded.
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
	for columns := range slices.Chunk(o.Columns, maxFormatArgs) {
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

// statesText returns a query for the RowState of each record, in the order of the records.
func (o *Options) statesText(product server.Product) string {
	return fmt.Sprintf("SELECT CASE WHEN %s THEN %d WHEN %s THEN %d ELSE %d END::INT8 %s ORDER BY csv.%s",
		o.same(product), SameRow, o.there(product), OtherRow, NoRow, o.joined(product, o.stored()), ordinal)
}

// presentText returns a query that counts the distinct keys of the records, and those without a
// row in the table.
func (o *Options) presentText(product server.Product) string {
	keys := fmt.Sprintf("(SELECT DISTINCT %s FROM %s) AS csv", o.keysOf("csv"), o.stored())
	return fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE NOT (%s)) %s", o.there(product), o.joined(product, keys))
}

// LooksUp reports whether only the content of rows shows who wrote them. Then an equal record
// elsewhere in the input could be mistaken for them. Generated rows are exempt: their keys are
// unique.
func (c *Committer) LooksUp() bool {
	return c.fromText() && !c.SkipVerification && (c.Mode == Statement || !c.hasLedger())
}

// Stamp returns a query for the current time in the server's own terms, which it also uses to
// stamp rows. The result errs on the early side: the clocks of CockroachDB nodes may differ by
// half a second.
func Stamp(product server.Product) string {
	if product == server.CockroachDB {
		return `SELECT (cluster_logical_timestamp() - 1000000000)::STRING`
	}
	return `SELECT (txid_snapshot_xmax(txid_current_snapshot()) & 4294967295)::TEXT`
}

// own returns the condition that the table row is identical to the record's, and that it was not
// written before the load began.
func (o *Options) own(product server.Product) string {
	same := o.same(product)
	switch {
	case o.Began == "":
	case product == server.CockroachDB:
		same += " AND t.crdb_internal_mvcc_timestamp >= " + literal(o.Began) + "::DECIMAL"
	default:
		same += " AND age(t.xmin) <= age(" + literal(o.Began) + "::xid)"
	}
	return same
}

// ownText returns a query that tells of each record, in their order, whether the load wrote its
// row.
func (o *Options) ownText(product server.Product) string {
	return fmt.Sprintf("SELECT (%s) %s ORDER BY csv.%s", o.own(product), o.joined(product, o.stored()), ordinal)
}

// lookText returns the query of a lookup. For the records whose key exists it finds whether the
// content is equal too, and which statement wrote it.
func (o *Options) lookText(product server.Product) string {
	stamp := "t.xmin::TEXT"
	if product == server.CockroachDB {
		stamp = "t.crdb_internal_mvcc_timestamp"
	}
	return fmt.Sprintf(`SELECT count(*) FILTER (WHERE there), count(*) FILTER (WHERE ours), count(DISTINCT stamp) FILTER (WHERE ours),
		COALESCE(min(n) FILTER (WHERE there AND NOT ours), 0), COALESCE(min(n) FILTER (WHERE there), 0), COALESCE(min(n) FILTER (WHERE again > 1), 0)
		FROM (SELECT %s AS there, (%s) AS ours, %s AS stamp, csv.%s AS n, row_number() OVER (PARTITION BY %s ORDER BY csv.%s) AS again %s) AS looked`,
		o.there(product), o.own(product), stamp, ordinal, o.keysOf("csv"), ordinal, o.joined(product, o.stored()))
}

// findText is find for rows of text, whose values only the server can compare, with the query
// sql.
func (c *Committer) findText(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, sql string) (finding, error) {
	var f finding
	var present int
	targets := []any{&present, &f.ours, &f.stamps, &f.other, &f.there, &f.repeated}
	if err := conn.QueryRow(ctx, sql, args(c.repeated, chunk)...).Scan(targets...); err != nil {
		return f, err
	}
	f.conflicting = present - f.ours
	f.missing = chunk.Len() - present
	if f.conflicting > 0 {
		f.firstConflicting = "(" + strings.Join(c.Keys, ", ") + ")"
		if f.other > 0 {
			f.firstConflicting = c.keyText(chunk, f.other-1)
		}
	}
	return f, nil
}

// taken returns the error of a record whose key is taken. Equal rows count as the chunk's own
// only if an attempt may have sent them: an attempt with unknown outcome, or a statement that
// was delivered twice and wrote either all rows or none. Otherwise they come from another
// record of the input, or from others.
func (c *Committer) taken(chunk *rows.Chunk, f finding, p *progress) error {
	switch {
	case !c.fromText():
		return nil
	case f.repeated > 0:
		return c.duplicateAt(chunk, f.repeated-1, "an earlier record has the same key")
	case f.conflicting > 0:
		return c.duplicateAt(chunk, f.other-1, "")
	case f.ours > 0 && !p.doubt && (f.ours < chunk.Len() || f.stamps > 1):
		return c.duplicateAt(chunk, f.there-1, "a row with the same content exists, from an earlier record or another writer")
	}
	return nil
}

// duplicateAt returns the error for the duplicate key of row i.
func (c *Committer) duplicateAt(chunk *rows.Chunk, i int, why string) error {
	err := &DuplicateError{Key: c.keyText(chunk, i), Why: why}
	if chunk.Origin == nil {
		return err
	}
	return &RowError{chunk.Origin.Place(i), err}
}

// keyText returns the key of row i, for messages.
func (c *Committer) keyText(chunk *rows.Chunk, i int) string {
	var parts []string
	for _, k := range c.Keys {
		for col := range chunk.Width() {
			if v := chunk.Col(col); v.Name == k {
				text, _ := v.Text(i)
				parts = append(parts, fmt.Sprintf("%s=%s", k, text))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// A RowState is the result of comparing a record with the table row of the same key.
type RowState int64

// The states.
const (
	NoRow    RowState = iota // no row has the key
	OtherRow                 // the row holds something else
	SameRow                  // the row is identical to the record's
)

// States compares each row of a chunk of text with the table.
func (c *Committer) States(ctx context.Context, chunk *rows.Chunk) ([]RowState, error) {
	if chunk.Len() == 0 {
		return nil, nil
	}
	var list []RowState
	err := c.read(ctx, func() error {
		found, err := c.pool.Query(ctx, c.sql.states, args(c.repeated, chunk)...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, pgx.RowTo[RowState])
		return err
	})
	if err == nil && len(list) != chunk.Len() {
		err = fmt.Errorf("the server compared %d rows of %d", len(list), chunk.Len())
	}
	return list, err
}

// VerifyText counts the rows of a chunk of text by RowState. First is the chunk's first
// position if any row is changed or missing; checksums are zero.
func (c *Committer) VerifyText(ctx context.Context, chunk *rows.Chunk) (Verdict, error) {
	v := Verdict{First: -1}
	states, err := c.States(ctx, chunk)
	for _, s := range states {
		switch s {
		case SameRow:
			v.Same++
		case OtherRow:
			v.Changed++
		default:
			v.Missing++
		}
	}
	if v.Changed+v.Missing > 0 {
		v.First = chunk.Span.First
	}
	return v, err
}
