package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
)

// A Column is a column of a table as the server describes it.
type Column struct {
	Name    string
	Type    string // as format_type prints it: "bigint", "double precision"
	NotNull bool
	Default bool // has a default, an identity or a generated value
	Hidden  bool // CockroachDB's rowid
}

// A Table is the target of a load as the server describes it.
type Table struct {
	Name    pgx.Identifier // schema and table
	OID     uint32         // on CockroachDB the table's id in its keys
	Kind    string         // pg_class.relkind: r, p, v, m, f, S
	Columns []Column
	Primary []string // columns of the primary key, in order
	Indexes []TableIndex
	// Deferrable says that the primary key is checked at COMMIT only.
	Deferrable bool
}

// A TableIndex is one index of a table.
type TableIndex struct {
	Name    string
	Primary bool
	Unique  bool
	Columns []string // key columns in order; an expression is ""
}

// ErrNoTable is wrapped by Describe's error when there is no such table.
var ErrNoTable = errors.New("no such table")

// ParseTable reads a table name as users write it: name or schema.name, parts in
// double quotes taken literally.
func ParseTable(text string) (pgx.Identifier, error) {
	var parts pgx.Identifier
	rest := text
	for {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			i := 1
			for {
				j := strings.IndexByte(rest[i:], '"')
				if j < 0 {
					return nil, fmt.Errorf("table name %s: a quote is not closed", text)
				}
				b.WriteString(rest[i : i+j])
				i += j + 1
				if !strings.HasPrefix(rest[i:], `"`) {
					break
				}
				b.WriteByte('"')
				i++
			}
			part, rest = b.String(), rest[i:]
		} else {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				i = len(rest)
			}
			part, rest = strings.ToLower(rest[:i]), rest[i:]
		}
		if part == "" || strings.ContainsRune(part, 0) {
			return nil, fmt.Errorf("table name %q: write table, schema.table, or \"any name\" in double quotes", text)
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		if rest[0] != '.' || rest == "." {
			return nil, fmt.Errorf("table name %q: write table, schema.table, or \"any name\" in double quotes", text)
		}
		rest = rest[1:]
	}
	if len(parts) > 3 {
		return nil, fmt.Errorf("table name %q has %d parts; at most database.schema.table", text, len(parts))
	}
	return parts, nil
}

// Describe reads what the server knows of a table. The error wraps ErrNoTable when
// there is none.
func Describe(ctx context.Context, db Querier, name pgx.Identifier) (*Table, error) {
	t := &Table{}
	var schema, table string
	// to_regclass takes the search path into account, and answers NULL for
	// what is not there; older servers of CockroachDB lack it for quoted names,
	// so the catalog is asked by name.
	q := `SELECT c.oid::INT8, n.nspname, c.relname, c.relkind::TEXT
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = $1 AND n.nspname = ANY($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		LIMIT 1`
	schemas := []string{}
	if len(name) > 1 {
		schemas = append(schemas, name[len(name)-2])
	} else if err := db.QueryRow(ctx, `SELECT current_schemas(false)`).Scan(&schemas); err != nil {
		return nil, fmt.Errorf("describe table %s: %s", name.Sanitize(), Reason(err))
	}
	var oid int64
	err := db.QueryRow(ctx, q, name[len(name)-1], schemas).Scan(&oid, &schema, &table, &t.Kind)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%w: %s", ErrNoTable, name.Sanitize())
	}
	if err != nil {
		return nil, fmt.Errorf("describe table %s: %w", name.Sanitize(), err)
	}
	t.OID, t.Name = uint32(oid), pgx.Identifier{schema, table}
	if err := t.readColumns(ctx, db); err != nil {
		return nil, fmt.Errorf("describe the columns of %s: %w", name.Sanitize(), err)
	}
	if err := t.readIndexes(ctx, db); err != nil {
		return nil, fmt.Errorf("describe the indexes of %s: %w", name.Sanitize(), err)
	}
	return t, nil
}

// A Querier runs queries: a connection, a pool or a transaction of pgx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (t *Table) readColumns(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef OR a.attidentity <> ''
		FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::INT8::OID AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, int64(t.OID))
	if err != nil {
		return err
	}
	t.Columns, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Column, error) {
		var c Column
		return c, row.Scan(&c.Name, &c.Type, &c.NotNull, &c.Default)
	})
	return err
}

func (t *Table) readIndexes(ctx context.Context, db Querier) error {
	numbers, err := t.columnNumbers(ctx, db)
	if err != nil {
		return err
	}
	found, err := db.Query(ctx, `SELECT c.relname, x.indisprimary, x.indisunique, NOT x.indimmediate, x.indkey::TEXT
		FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
		WHERE x.indrelid = $1::INT8::OID ORDER BY x.indisprimary DESC, c.relname`, int64(t.OID))
	if err != nil {
		return err
	}
	t.Indexes, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (TableIndex, error) {
		var x TableIndex
		var late bool
		var keys string
		if err := row.Scan(&x.Name, &x.Primary, &x.Unique, &late, &keys); err != nil {
			return x, err
		}
		for key := range strings.FieldsSeq(keys) {
			x.Columns = append(x.Columns, numbers[key])
		}
		if x.Primary {
			t.Primary, t.Deferrable = x.Columns, late
		}
		return x, nil
	})
	return err
}

// columnNumbers returns the names of the table's columns by attnum, in digits.
func (t *Table) columnNumbers(ctx context.Context, db Querier) (map[string]string, error) {
	found, err := db.Query(ctx, `SELECT attnum::TEXT, attname FROM pg_catalog.pg_attribute WHERE attrelid = $1::INT8::OID AND attnum > 0`, int64(t.OID))
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	var number, name string
	_, err = pgx.ForEachRow(found, []any{&number, &name}, func() error { m[number] = name; return nil })
	return m, err
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// Display returns the table's name for people: quoted only where a part has other
// characters than lower-case letters, digits and underscores. SQL takes
// Name.Sanitize.
func (t *Table) Display() string {
	parts := make([]string, len(t.Name))
	for i, p := range t.Name {
		parts[i] = p
		if !plainName.MatchString(p) {
			parts[i] = pgx.Identifier{p}.Sanitize()
		}
	}
	return strings.Join(parts, ".")
}

// Column returns the column of that name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Schema returns the table as far as the sizes of its keys go. keyBytes, when not
// zero, is the size of the primary key column in a key, known exactly.
//
// The ids of secondary indexes are not asked for: they are below 110 on all tables
// but those whose indexes were made anew a hundred times.
func (t *Table) Schema(keyBytes int64) chunker.Schema {
	s := chunker.Schema{TableID: uint64(t.OID), Families: 1}
	column := func(name string) chunker.KeyColumn {
		if keyBytes > 0 && len(t.Primary) == 1 && name == t.Primary[0] {
			return chunker.KeyColumn{Name: name, MaxBytes: keyBytes, Exact: true}
		}
		if c := t.Column(name); c != nil {
			return chunker.SizeOf(name, c.Type)
		}
		return chunker.SizeOf(name, "")
	}
	for i, x := range t.Indexes {
		index := chunker.Index{Name: x.Name, ID: uint64(i + 1), Primary: x.Primary, Unique: x.Unique}
		in := map[string]bool{}
		for _, c := range x.Columns {
			index.Columns = append(index.Columns, column(c))
			in[c] = true
		}
		if !x.Primary {
			// Also a unique index has them, when a column of its own is NULL.
			for _, c := range t.Primary {
				if !in[c] {
					index.Columns = append(index.Columns, column(c))
				}
			}
		}
		s.Indexes = append(s.Indexes, index)
	}
	return s
}
