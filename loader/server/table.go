package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/keysize"
)

// A Table describes the target of a load as the server reports it. It does not change after
// Describe, so several goroutines may read it.
type Table struct {
	Name    pgx.Identifier // schema and table
	Kind    string         // pg_class.relkind: r, or p for a partitioned table of PostgreSQL
	Columns []Column       // in the table's order, including hidden ones
	// Primary holds the columns of the primary key, in order. It includes the hidden rowid of
	// a CockroachDB table declared without a key, and the hidden computed column of a
	// hash-sharded key. Nil means no primary key (PostgreSQL).
	Primary []string
	// Deferrable means that the primary key can be checked at COMMIT.
	Deferrable bool
	Indexes    []TableIndex // the primary key first, then by name
	// ForeignKeys are declared on this table; ReferencedBy are those of other tables that
	// reference it.
	ForeignKeys, ReferencedBy []ForeignKey
	Triggers                  []string // names of enabled triggers made by users
	// OnInsert holds the names of those that an INSERT fires, on the table or a partition.
	OnInsert    []string
	Rules       bool // PostgreSQL: has rewrite rules
	RowSecurity bool // has row-level security
	Temporary   bool // visible to one session only
	Partition   bool // PostgreSQL: is itself a partition of another table
	Identity
	// Version counts the changes of the table's definition, a trigger's among them; zero is
	// unknown. Only CockroachDB has it.
	Version int64
	// Expires says that the server deletes rows by itself (CockroachDB's row-level TTL).
	Expires bool
	// EstimatedRows is the number of rows by the server's statistics; -1 if there are none.
	EstimatedRows int64
	// Empty means that the table certainly had no rows. EmptyErr is the reason why that could
	// not be determined.
	Empty    bool
	EmptyErr error
	// Keys describes the table for computing the sizes of its keys. Only CockroachDB's limits
	// depend on them.
	Keys keysize.Schema
	// create is the text of CockroachDB's SHOW CREATE TABLE.
	create string
	// Notes lists what could not be read, one line each.
	Notes []string
}

// An Identity tells a table from another one of the same name, and from the same table with
// replaced rows.
type Identity struct {
	OID uint32 // on CockroachDB the table id in its keys
	// Storage identifies the storage of the rows, including partitions. TRUNCATE changes it,
	// as does every rewrite of all rows: VACUUM FULL, CLUSTER, some ALTER TABLE, and on
	// CockroachDB ALTER PRIMARY KEY. Empty means unknown.
	Storage string
	// Unlogged means that a server crash empties the table or a partition of it.
	Unlogged bool
}

// A Column describes a column as the server reports it.
type Column struct {
	Name    string
	Type    string // as format_type prints it: "bigint", "double precision"
	SQLType string // as CockroachDB prints it: "INT8"; elsewhere Type
	TypeOID uint32
	// Base, on PostgreSQL, is Type, or the base type if Type is a domain.
	Base string
	// Collation, on PostgreSQL, is the column's collation in SQL; empty if it is the
	// database's default. Nondeterministic means that it compares some different texts as
	// equal.
	Collation        string
	Nondeterministic bool
	NotNull          bool
	Default          bool // has a default, an identity or a generated value
	// Expr is the default or the generation expression; empty for an identity column.
	Expr      string
	Generated bool // computed from other columns: cannot be written
	Identity  bool // an identity column
	Always    bool // GENERATED ALWAYS AS IDENTITY: writable only with OVERRIDING SYSTEM VALUE
	Hidden    bool // CockroachDB: not in SELECT *
	Labels    int  // number of labels of an ENUM type; else zero
	// OnUpdate says that an UPDATE of the row changes the column (CockroachDB's ON UPDATE).
	OnUpdate bool
}

// A TableIndex describes an index of a table.
type TableIndex struct {
	Name    string
	ID      int64 // CockroachDB's index id; zero if unknown
	Primary bool
	Unique  bool
	// Columns holds the key columns in order, with "" for an expression. The first Implicit
	// columns are not written in the index definition: the computed column of a hash-sharded
	// index, the region of REGIONAL BY ROW.
	Columns  []string
	Desc     []bool   // per column
	Exprs    []string // the expression per column, or ""
	Implicit int
	Storing  []string // STORING, or INCLUDE
	Where    bool     // a partial index
	// Condition is the WHERE condition of a partial index, as SQL.
	Condition string
	Inverted  bool   // CockroachDB: one entry per element
	Method    string // PostgreSQL: btree, hash, gin, …; CockroachDB: btree, inverted, vector
	// Constraint means that a constraint of the same name owns the index (PostgreSQL: UNIQUE
	// or EXCLUDE). Deferrable means that it can be checked at COMMIT.
	Constraint, Deferrable bool
	// Create and Drop are the statements that recreate and drop the index; empty for a primary
	// key.
	Create, Drop string
}

// A ForeignKey is a reference from one table to another.
type ForeignKey struct {
	Name       string
	Table      string // the other table, as the server prints it
	Definition string // FOREIGN KEY (a) REFERENCES …
}

// A Querier runs queries: a connection, a pool or a transaction of pgx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Describe reads the server's description of a table. The error is a *TargetError if the name
// is not that of a loadable table; it wraps ErrNoTable if no relation has the name. Describe
// writes nothing.
func Describe(ctx context.Context, db Querier, info Info, name pgx.Identifier) (*Table, error) {
	t := &Table{EstimatedRows: -1}
	if err := t.find(ctx, db, info, name); err != nil {
		return nil, err
	}
	why, ok := notTables[t.Kind]
	if t.Kind == "v" && info.Product == PostgreSQL {
		// An INSTEAD OF INSERT trigger makes a view insertable.
		if err := db.QueryRow(ctx, `SELECT NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = $1::INT8::OID AND tgenabled <> 'D' AND tgtype::INT8 & $2::INT8 = $2::INT8)`,
			int64(t.OID), int64(triggerOnInsert|triggerInstead)).Scan(&ok); err != nil {
			return nil, fmt.Errorf("describe the triggers of %s: %w", Display(t.Name), err)
		}
	}
	if ok {
		return nil, &TargetError{Name: Display(t.Name), Reason: why}
	}
	steps := []struct {
		what string
		read func(context.Context, Querier) error
	}{
		{"columns", t.postgresColumns},
		{"indexes", t.postgresIndexes},
		{"foreign keys", t.foreignKeys},
		{"triggers", t.triggers},
		{"triggers", t.onInsert},
	}
	if info.Product == CockroachDB {
		steps[0].read = t.cockroachColumns
		steps[1].read = func(ctx context.Context, db Querier) error { return t.cockroachIndexes(ctx, db, info) }
	}
	var readers []func(context.Context, Querier) error
	for _, s := range steps {
		readers = append(readers, func(ctx context.Context, db Querier) error {
			if err := s.read(ctx, db); err != nil {
				return fmt.Errorf("describe the %s of %s: %w", s.what, Display(t.Name), err)
			}
			return nil
		})
	}
	if err := Together(ctx, db, append(readers, t.readEmpty)...); err != nil {
		return nil, err
	}
	if info.Product == CockroachDB {
		t.keys()
		t.readOptions()
		if info.AtLeast(24, 3, 0) && !info.AtLeast(26, 1, 0) && len(t.Triggers) == 0 {
			if err := t.showTriggers(ctx, db); err != nil {
				return nil, fmt.Errorf("describe the triggers of %s: %w", Display(t.Name), err)
			}
		}
	}
	return t, nil
}

// readEmpty reads whether the table is empty.
func (t *Table) readEmpty(ctx context.Context, db Querier) error {
	var one int
	err := db.QueryRow(ctx, "SELECT 1 FROM "+t.Name.Sanitize()+" LIMIT 1").Scan(&one)
	t.Empty = errors.Is(err, pgx.ErrNoRows)
	if err != nil && !t.Empty {
		if Code(err) == "" { // the connection failed, not a privilege check
			return fmt.Errorf("look whether %s is empty: %w", Display(t.Name), err)
		}
		t.EmptyErr = err
	}
	return nil
}

// find finds the relation of that name by the rules of an SQL statement.
func (t *Table) find(ctx context.Context, db Querier, info Info, name pgx.Identifier) error {
	if len(name) == 0 {
		return noTable(name, "the name is empty")
	}
	parts := append(pgx.Identifier(nil), name...)
	if info.Product == PostgreSQL {
		for i := range parts {
			parts[i] = cutName(parts[i])
		}
	}
	table := parts[len(parts)-1]
	var schemas []string // nil: the search path
	if len(parts) > 1 {
		schemas = []string{parts[len(parts)-2]}
	}
	var database string
	var path []string
	var readErr error
	estimate := int64(-1)
	// Which schemas CockroachDB's old form database.table means depends on the database.
	err := Together(ctx, db, func(ctx context.Context, db Querier) error {
		return db.QueryRow(ctx, `SELECT current_database(), current_schemas(true)`).Scan(&database, &path)
	}, func(ctx context.Context, db Querier) error {
		readErr = t.read(ctx, db, info, named, table, schemas)
		return nil
	}, func(ctx context.Context, db Querier) error {
		if info.Product == CockroachDB {
			estimate = estimatedRows(ctx, db, parts)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("describe table %s: %w", Display(name), err)
	}
	switch {
	case len(parts) == 3 && parts[0] != database:
		return noTable(name, fmt.Sprintf(": the connection is to database %s", Display(pgx.Identifier{database})))
	case len(parts) == 1:
		schemas = path
	case len(parts) == 2 && info.Product == CockroachDB && parts[0] == database:
		schemas = append(schemas, "public") // database.table is CockroachDB's old form
		if errors.Is(readErr, pgx.ErrNoRows) {
			readErr = t.read(ctx, db, info, named, table, schemas)
		}
	}
	err = readErr
	if errors.Is(err, pgx.ErrNoRows) && info.Product == CockroachDB {
		// Without privileges on the database, pg_namespace does not list its schemas,
		// although the table can be used.
		for _, schema := range schemas {
			var oid int64
			if db.QueryRow(ctx, `SELECT $1::TEXT::REGCLASS::OID::INT8`, pgx.Identifier{schema, table}.Sanitize()).Scan(&oid) != nil {
				continue
			}
			if err = t.read(ctx, db, info, "c.oid = $1::INT8::OID", oid, schemas); err == nil {
				t.Name[0] = schema
			}
			break
		}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return noTable(name, inDatabase(database))
	case err != nil:
		return fmt.Errorf("describe table %s: %w", Display(name), err)
	}
	if info.Product == CockroachDB {
		t.EstimatedRows = estimate
	}
	return nil
}

// read reads the pg_class entry of the first matching relation, in the order of schemas; nil
// schemas are those of the search path.
func (t *Table) read(ctx context.Context, db Querier, info Info, which string, what any, schemas []string) error {
	var oid int64
	var schema, table, persistence string
	var estimate *float64
	storage := postgresStorage
	if info.Product == CockroachDB {
		storage = cockroachStorage
	}
	err := db.QueryRow(ctx, `SELECT c.oid::INT8, COALESCE(n.nspname, ''), c.relname, c.relkind::TEXT, c.relpersistence::TEXT,
			COALESCE(c.relispartition, false), COALESCE(c.relhasrules, false), COALESCE(c.relrowsecurity, false), c.reltuples::FLOAT8, `+storage+`
		FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE `+which+` ORDER BY array_position(`+inSchemas+`, n.nspname::TEXT) LIMIT 1`, what, schemas).
		Scan(&oid, &schema, &table, &t.Kind, &persistence, &t.Partition, &t.Rules, &t.RowSecurity, &estimate, &t.Storage)
	if err != nil {
		return err
	}
	t.OID, t.Name, t.Temporary = uint32(oid), pgx.Identifier{schema, table}, persistence == "t"
	t.Storage, t.Unlogged = strings.CutPrefix(t.Storage, unlogged)
	// PostgreSQL gives -1 (0 before 14) for a table that was never analysed.
	if estimate != nil && *estimate > 0 {
		t.EstimatedRows = int64(*estimate)
	}
	return nil
}

// foreignKeys reads the foreign keys of the table and those that reference it.
func (t *Table) foreignKeys(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT conname, conrelid = $1::INT8::OID, confrelid = $1::INT8::OID, conrelid::REGCLASS::TEXT, confrelid::REGCLASS::TEXT, pg_get_constraintdef(oid)
		FROM pg_catalog.pg_constraint WHERE contype = 'f' AND (conrelid = $1::INT8::OID OR confrelid = $1::INT8::OID) ORDER BY conname`, int64(t.OID))
	if err != nil {
		return err
	}
	var name, from, to, definition string
	var out, in bool
	_, err = pgx.ForEachRow(found, []any{&name, &out, &in, &from, &to, &definition}, func() error {
		if out {
			t.ForeignKeys = append(t.ForeignKeys, ForeignKey{name, to, definition})
		}
		if in {
			t.ReferencedBy = append(t.ReferencedBy, ForeignKey{name, from, definition})
		}
		return nil
	})
	return err
}

// triggers reads the names of the enabled triggers made by users.
func (t *Table) triggers(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = $1::INT8::OID AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY tgname`, int64(t.OID))
	if err != nil {
		return err
	}
	t.Triggers, err = pgx.CollectRows(found, pgx.RowTo[string])
	return err
}

// triggerOnInsert is the bit of pg_trigger.tgtype for triggers fired by INSERT (PostgreSQL,
// src/include/catalog/pg_trigger.h).
const triggerOnInsert = 4

// triggerInstead is the bit for INSTEAD OF triggers, from the same source.
const triggerInstead = 64

// onInsert reads the names of the triggers fired by inserting rows into the table or its
// partitions.
func (t *Table) onInsert(ctx context.Context, db Querier) error {
	within := `SELECT $1::INT8::OID AS oid`
	if t.Kind == "p" {
		within = `WITH RECURSIVE part AS (SELECT $1::INT8::OID AS oid UNION ALL SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.oid) SELECT oid FROM part`
	}
	found, err := db.Query(ctx, `SELECT DISTINCT tgname::TEXT FROM pg_catalog.pg_trigger WHERE tgrelid IN (`+within+`)
		AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype::INT8 & $2::INT8 <> 0 ORDER BY 1`, int64(t.OID), int64(triggerOnInsert))
	if err != nil {
		return err
	}
	t.OnInsert, err = pgx.CollectRows(found, pgx.RowTo[string])
	return err
}

// Display returns the table's name for people; SQL takes Name.Sanitize.
func (t *Table) Display() string { return Display(t.Name) }

// Column returns the column of that name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// HiddenKey reports whether the primary key is the hidden rowid of a CockroachDB table
// declared without a key: the client cannot know its values.
func (t *Table) HiddenKey() bool {
	if len(t.Primary) != 1 {
		return false
	}
	c := t.Column(t.Primary[0])
	return c != nil && c.Hidden && !c.Generated
}
