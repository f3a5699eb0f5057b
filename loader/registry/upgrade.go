package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/server"
)

// Open returns the registry of pool's database, of this or an earlier version. The error is
// ErrNoRegistry if there is none, or a *SchemaError if schema loader belongs to another program
// or a newer loader. Open writes nothing: an earlier registry is read as it is, and upgraded by
// the first call that writes.
func Open(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	return (*Ahead)(nil).Open(ctx, pool, info)
}

// Open is the function Open, with the answers that a has; a may be nil.
func (a *Ahead) Open(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	f, err := readContents(ctx, pool, a)
	if err != nil {
		return nil, err
	}
	r := newRegistry(pool, info)
	r.ahead = a
	r.older.Store(!f.current())
	return r, nil
}

// Create is Open, but creates a missing registry and upgrades an earlier one. A
// *server.CreateError says that the user may not create it. A *SchemaError says that it cannot
// be used or upgraded.
func Create(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	return (*Ahead)(nil).Create(ctx, pool, info)
}

// Create is the function Create, with the answers that a has; a may be nil.
func (a *Ahead) Create(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	r, err := a.Open(ctx, pool, info)
	if errors.Is(err, ErrNoRegistry) {
		if err := server.CreateIfMissing(ctx, pool, "schema", Schema, "CREATE SCHEMA IF NOT EXISTS loader"); err != nil {
			return nil, err
		}
		for _, t := range tables {
			if err := server.CreateIfMissing(ctx, pool, "table", Schema+"."+t.name, t.ddl); err != nil {
				return nil, err
			}
		}
		r = newRegistry(pool, info)
		r.older.Store(true)
		return r, server.LookAgain(ctx, ErrNoRegistry, func() error { return r.upgrade(ctx) })
	} else if err != nil {
		return nil, err
	}
	return r, r.upgrade(ctx)
}

// upgrade brings the registry to this version if it is of an earlier one. It is called before
// the first write.
func (r *Registry) upgrade(ctx context.Context) error {
	if !r.older.Load() {
		return nil
	}
	f, err := readContents(ctx, r.pool, nil)
	if err != nil {
		return err
	}
	failed := func(what string, err error) error {
		if c := server.Classify(err); c == server.Refused || c == server.Permanent {
			return &SchemaError{Reason: fmt.Sprintf("an earlier loader wrote the registry (schema %s), and %s; the next load by the owner of its tables upgrades it", Schema, what), Err: err}
		}
		return fmt.Errorf("upgrade the registry: %s: %w", what, err)
	}
	for _, t := range tables {
		if f.columns[t.name] != nil {
			continue
		}
		if err := r.ddl(ctx, t.ddl); err != nil {
			return failed("table "+t.name+" cannot be added", err)
		}
	}
	for _, s := range steps {
		if s.version <= f.version {
			continue
		}
		for _, c := range s.columns {
			if f.columns[c.table] == nil || f.columns[c.table][c.name] {
				continue // its table was just created with it
			}
			if err := r.ddl(ctx, fmt.Sprintf("ALTER TABLE loader.%s ADD COLUMN IF NOT EXISTS %s %s", c.table, c.name, c.typ)); err != nil {
				return failed("column "+c.table+"."+c.name+" cannot be added", err)
			}
		}
		if err := r.exec(ctx, `INSERT INTO loader.version (number) VALUES ($1) ON CONFLICT (number) DO NOTHING`, s.version); err != nil {
			return failed("its version cannot be written", err)
		}
	}
	r.older.Store(false)
	return nil
}

// absent reports whether err means that a registry of an earlier version lacks the table. Then
// the table counts as empty.
func (r *Registry) absent(err error) bool {
	return r.older.Load() && server.Code(err) == pgerrcode.UndefinedTable
}

// ddl retries an idempotent statement until it succeeds; other loaders may run the same
// statement.
func (r *Registry) ddl(ctx context.Context, sql string) error {
	return r.persist(ctx, func(ctx context.Context) error {
		_, err := r.pool.Exec(ctx, sql)
		switch server.Code(err) {
		case pgerrcode.DuplicateSchema, pgerrcode.DuplicateTable, pgerrcode.DuplicateObject, pgerrcode.DuplicateColumn,
			pgerrcode.UniqueViolation, pgerrcode.ObjectNotInPrerequisiteState: // others are creating the same
			return transientError{err}
		}
		return err
	})
}
