package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// A SchemaError says why schema loader cannot be used. Nothing was changed in the schema.
type SchemaError struct {
	Reason string
	Err    error // the server's error; may be nil
}

// ErrorKind implements failure.Kinded.
func (e *SchemaError) ErrorKind() failure.Kind { return failure.Target }

func (e *SchemaError) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return e.Reason + ": " + server.Reason(e.Err)
}

func (e *SchemaError) Unwrap() error { return e.Err }

// probe reads the version of a registry that has every column of this version.
const probe = `SELECT COALESCE(max(v.number), 0) FROM loader.version v
	LEFT JOIN (SELECT id, what, target, state, positions, done, spec, job, open, generation FROM loader.loads LIMIT 0) l ON true
	LEFT JOIN (SELECT load, successor, announced FROM loader.claims LIMIT 0) c ON true
	LEFT JOIN (SELECT load, fenced FROM loader.runs LIMIT 0) r ON true
	LEFT JOIN (SELECT load, hash, records FROM loader.ledger LIMIT 0) g ON true`

// contents are the objects in schema loader.
type contents struct {
	version int
	objects []string                   // every object, for messages
	columns map[string]map[string]bool // by table name and column name
}

// ours reports whether the schema holds a registry of any version. It checks the first
// registry's columns of loads.
func (f *contents) ours() bool {
	return f.has("loads", "id", "what", "target", "state", "positions", "done", "spec", "created_at", "finished_at", "job")
}

func (f *contents) has(table string, columns ...string) bool {
	for _, c := range columns {
		if !f.columns[table][c] {
			return false
		}
	}
	return true
}

// foreign returns an error if the contents of the schema belong to another program. The history
// of transfers may be in the schema without a registry.
func (f *contents) foreign() *SchemaError {
	history := f.columns["loads"] == nil && f.has("transfer_runs", "id", "target", "table_id", "seed", "transfers")
	if len(f.objects) == 0 || f.ours() || history {
		return nil
	}
	return &SchemaError{Reason: fmt.Sprintf("schema %s of this database is not loader's: it holds %s, and is left alone", Schema, few(f.objects))}
}

// current reports whether the registry is complete and of this version.
func (f *contents) current() bool {
	for _, t := range tables {
		if f.columns[t.name] == nil {
			return false
		}
	}
	for _, s := range steps {
		for _, c := range s.columns {
			if !f.columns[c.table][c.name] {
				return false
			}
		}
	}
	return f.version == Version
}

// readContents reads the contents of schema loader. The error is ErrNoRegistry if the schema is
// missing or empty, or a *SchemaError if it belongs to another program or a newer loader.
func readContents(ctx context.Context, pool *pgxpool.Pool, ahead *Ahead) (*contents, error) {
	f := &contents{columns: map[string]map[string]bool{}}
	var err error
	if ahead != nil && (ahead.err == nil || server.Code(ahead.err) != "") {
		f.version, err = ahead.version, ahead.err
	} else {
		err = pool.QueryRow(ctx, probe).Scan(&f.version)
	}
	if err == nil && f.version == Version {
		for _, t := range tables {
			f.columns[t.name] = map[string]bool{}
		}
		for _, s := range steps {
			for _, c := range s.columns {
				f.columns[c.table][c.name] = true
			}
		}
		return f, nil
	}
	// A user who may read only the tables of earlier versions relies on the catalogue.
	unread := server.Code(err) == pgerrcode.InsufficientPrivilege
	if err != nil && !missing(err) && !unread {
		return nil, fmt.Errorf("look for the registry: %w", err)
	}
	if err := f.read(ctx, pool); err != nil {
		return nil, fmt.Errorf("look for the registry: %w", err)
	}
	switch {
	case unread:
		f.version = Version
	case f.has("version", "number", "upgraded_at"):
		if err := pool.QueryRow(ctx, `SELECT COALESCE(max(number), 0) FROM loader.version`).Scan(&f.version); err != nil {
			return nil, fmt.Errorf("read the version of the registry: %w", err)
		}
	}
	switch {
	case f.version > Version:
		return nil, &SchemaError{Reason: fmt.Sprintf("a newer loader wrote the registry (schema %s): version %d, and this loader knows up to %d; update loader", Schema, f.version, Version)}
	case f.ours():
		return f, nil
	}
	if err := f.foreign(); err != nil {
		err.Reason += "; --no-registry loads without a record in it"
		return nil, err
	}
	return nil, ErrNoRegistry
}

// CheckSchema returns a *SchemaError if schema loader belongs to another program, so that
// nothing is created in it.
func CheckSchema(ctx context.Context, db querier) error {
	f := &contents{columns: map[string]map[string]bool{}}
	if err := f.read(ctx, db); err != nil {
		return fmt.Errorf("look at schema %s: %w", Schema, err)
	}
	if err := f.foreign(); err != nil {
		return err
	}
	return nil
}

// A querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// missing reports whether a query failed because a schema, table or column does not exist.
func missing(err error) bool {
	switch server.Code(err) {
	case pgerrcode.UndefinedTable, pgerrcode.UndefinedColumn, pgerrcode.InvalidSchemaName:
		return true
	}
	return false
}

// read reads the contents of the schema from the catalogue.
func (f *contents) read(ctx context.Context, db querier) error {
	found, err := db.Query(ctx, `SELECT c.relname::TEXT, COALESCE(a.attname::TEXT, '') FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname = $1 AND c.relkind NOT IN ('i', 'I', 't', 'c')
		UNION ALL SELECT p.proname::TEXT || '()', '' FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1
		UNION ALL SELECT t.typname::TEXT, '' FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
			WHERE n.nspname = $1 AND t.typtype IN ('e', 'd')`, Schema)
	if err != nil {
		return err
	}
	var name, attribute string
	_, err = pgx.ForEachRow(found, []any{&name, &attribute}, func() error {
		if !slices.Contains(f.objects, name) {
			f.objects = append(f.objects, name)
		}
		if f.columns[name] == nil {
			f.columns[name] = map[string]bool{}
		}
		f.columns[name][attribute] = true
		return nil
	})
	return err
}

// few returns up to three names of a list and the number of the others.
func few(list []string) string {
	slices.Sort(list)
	if len(list) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ", "), len(list)-3)
	}
	return strings.Join(list, ", ")
}
