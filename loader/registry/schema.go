package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// Schema is the schema that holds the registry's tables.
const Schema = "loader"

// Version is the registry version that this package creates and writes.
const Version = 5

// tables are the registry's tables as a new registry has them. Positions are row numbers or
// byte offsets; lo is inclusive, hi exclusive. The tables are created outside of any load's
// transactions, since DDL commits by itself on CockroachDB from 25.1 on.
var tables = []struct{ name, ddl string }{
	// One row per load. done holds the committed positions outside of leases, as chunker.Ranges
	// writes them. generation counts how often Registry.Move replaced the positions. open holds
	// the positions that a dead run leased and may have sent without recording them, where no
	// ledger tells.
	{"loads", `CREATE TABLE IF NOT EXISTS loader.loads (
		id TEXT NOT NULL PRIMARY KEY,
		created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		finished_at TIMESTAMPTZ,
		what TEXT NOT NULL,
		target TEXT NOT NULL,
		state TEXT NOT NULL,
		positions BIGINT NOT NULL,
		done TEXT NOT NULL DEFAULT '',
		spec TEXT NOT NULL,
		job BIGINT,
		open TEXT NOT NULL DEFAULT '',
		generation BIGINT NOT NULL DEFAULT 0)`},
	// One row per lease. run never changes: it names the sessions that must end before another
	// run takes the range. successor is NULL as long as run may work. beat is the last
	// heartbeat. announced says that run writes to loader.sent what it is about to send, so that
	// nothing else of the lease was sent.
	{"claims", `CREATE TABLE IF NOT EXISTS loader.claims (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		run TEXT NOT NULL,
		done TEXT NOT NULL DEFAULT '',
		beat TIMESTAMPTZ NOT NULL DEFAULT now(),
		successor TEXT,
		announced BOOL NOT NULL DEFAULT false,
		PRIMARY KEY (load, lo))`},
	// One row per chunk that CommitMode transaction committed and that lies in a lease. It is
	// written in the transaction of the chunk's rows. hash identifies the input bytes of a
	// file's chunk; records is its number of records.
	{"ledger", `CREATE TABLE IF NOT EXISTS loader.ledger (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL DEFAULT '',
		records BIGINT NOT NULL DEFAULT 0,
		PRIMARY KEY (load, lo))`},
	// Chunk hashes that came from the ledger, for committed chunks outside of leases. They are
	// kept until the load is done.
	{"ranges", `CREATE TABLE IF NOT EXISTS loader.ranges (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL,
		records BIGINT NOT NULL,
		PRIMARY KEY (load, lo))`},
	// Ranges that runs without a ledger may have sent, written before the first of their chunks
	// is sent. hash identifies their input bytes; empty is unknown. They are kept until all of
	// the lease is committed, or the load is done.
	{"sent", `CREATE TABLE IF NOT EXISTS loader.sent (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		hash TEXT NOT NULL,
		PRIMARY KEY (load, lo, hi))`},
	// Rekeyed rows: their generated key belonged to another row, so they have this key instead.
	{"moved", `CREATE TABLE IF NOT EXISTS loader.moved (
		load TEXT NOT NULL,
		row_number BIGINT NOT NULL,
		id BIGINT NOT NULL,
		PRIMARY KEY (load, row_number))`},
	// Secondary indexes that a load has dropped, or is about to drop.
	{"indexes", `CREATE TABLE IF NOT EXISTS loader.indexes (
		load TEXT NOT NULL,
		name TEXT NOT NULL,
		place BIGINT NOT NULL,
		ddl TEXT NOT NULL,
		PRIMARY KEY (load, name))`},
	// Rejected records of a file, written in the transaction of their chunk.
	{"rejects", `CREATE TABLE IF NOT EXISTS loader.rejects (
		load TEXT NOT NULL,
		position BIGINT NOT NULL,
		file TEXT NOT NULL,
		line BIGINT NOT NULL,
		byte BIGINT NOT NULL,
		column_name TEXT NOT NULL,
		code TEXT NOT NULL,
		reason TEXT NOT NULL,
		record BYTEA NOT NULL,
		PRIMARY KEY (load, position))`},
	// The best known settings for loading a table.
	{"tuning", `CREATE TABLE IF NOT EXISTS loader.tuning (
		target TEXT NOT NULL,
		what TEXT NOT NULL,
		chunk BIGINT NOT NULL,
		workers BIGINT NOT NULL,
		via TEXT NOT NULL,
		way TEXT NOT NULL,
		origin TEXT NOT NULL,
		updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		PRIMARY KEY (target, what))`},
	// One row per run that has had a lease: the user of its sessions, and whether it is fenced.
	// A fenced run may not work: other runs take over its leases, or have done so.
	{"runs", `CREATE TABLE IF NOT EXISTS loader.runs (
		load TEXT NOT NULL,
		run TEXT NOT NULL,
		username TEXT NOT NULL DEFAULT '',
		began_at TIMESTAMPTZ NOT NULL DEFAULT now(),
		fenced BOOL NOT NULL DEFAULT false,
		PRIMARY KEY (load, run))`},
	// Positions with unknown outcome. looked: a lookup found equal rows and counted them as
	// this load's. That must be settled before the load is done.
	{"doubts", `CREATE TABLE IF NOT EXISTS loader.doubts (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		looked BOOL NOT NULL,
		PRIMARY KEY (load, lo, hi))`},
	// One row per version that the registry has reached.
	{"version", `CREATE TABLE IF NOT EXISTS loader.version (
		number BIGINT NOT NULL PRIMARY KEY,
		upgraded_at TIMESTAMPTZ NOT NULL DEFAULT now())`},
}

// A column is added to a table of an older registry by a step.
type column struct{ table, name, typ string }

// A step upgrades a registry from the previous version to version. Missing tables are created
// before the first step, as listed in tables.
type step struct {
	version int
	columns []column
}

// steps are the upgrades, in order. A registry without a number is of version 0 or 1. A step
// may be interrupted anywhere, and several loaders may run it at once: each of its statements
// is idempotent, and the number is written last.
//
// Note: no lock keeps other loaders out meanwhile. DDL on CockroachDB commits by itself, so a
// lock would end at the first statement.
var steps = []step{
	// Tables that the first registries lack: indexes, tuning, rejects.
	{version: 1},
	// A takeover keeps the run's name until the run's sessions have ended.
	{version: 2, columns: []column{
		{"loads", "open", "TEXT NOT NULL DEFAULT ''"},
		{"claims", "successor", "TEXT"},
	}},
	// Table doubts.
	{version: 3},
	// Table ranges, and the columns for loads of an edited file.
	{version: 4, columns: []column{
		{"ledger", "hash", "TEXT NOT NULL DEFAULT ''"},
		{"ledger", "records", "BIGINT NOT NULL DEFAULT 0"},
		{"loads", "generation", "BIGINT NOT NULL DEFAULT 0"},
	}},
	// Table sent, and the leases that fill it.
	{version: 5, columns: []column{
		{"claims", "announced", "BOOL NOT NULL DEFAULT false"},
	}},
}

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

// A form is the contents of schema loader.
type form struct {
	version int
	objects []string                   // every object, for messages
	columns map[string]map[string]bool // by table name and column name
}

// ours reports whether the schema holds a registry of any version. It checks the first
// registry's columns of loads.
func (f *form) ours() bool {
	return f.has("loads", "id", "what", "target", "state", "positions", "done", "spec", "created_at", "finished_at", "job")
}

func (f *form) has(table string, columns ...string) bool {
	for _, c := range columns {
		if !f.columns[table][c] {
			return false
		}
	}
	return true
}

// foreign returns an error if the contents of the schema belong to another program. The history
// of transfers may be in the schema without a registry.
func (f *form) foreign() *SchemaError {
	history := f.columns["loads"] == nil && f.has("transfer_runs", "id", "target", "table_id", "seed", "transfers")
	if len(f.objects) == 0 || f.ours() || history {
		return nil
	}
	return &SchemaError{Reason: fmt.Sprintf("schema %s of this database is not loader's: it holds %s, and is left alone", Schema, few(f.objects))}
}

// current reports whether the registry is complete and of this version.
func (f *form) current() bool {
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

// readForm reads the contents of schema loader. The error is ErrNoRegistry if the schema is
// missing or empty, or a *SchemaError if it belongs to another program or a newer loader.
func readForm(ctx context.Context, pool *pgxpool.Pool, ahead *Ahead) (*form, error) {
	f := &form{columns: map[string]map[string]bool{}}
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
	if err := f.look(ctx, pool); err != nil {
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
	f := &form{columns: map[string]map[string]bool{}}
	if err := f.look(ctx, db); err != nil {
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

// look reads the contents of the schema from the catalogue.
func (f *form) look(ctx context.Context, db querier) error {
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

// Open returns the registry of pool's database, of this or an earlier version. The error is
// ErrNoRegistry if there is none, or a *SchemaError if schema loader belongs to another program
// or a newer loader. Open writes nothing: an earlier registry is read as it is, and upgraded by
// the first call that writes.
func Open(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	return (*Ahead)(nil).Open(ctx, pool, info)
}

// Open is the function Open, with the answers that a has; a may be nil.
func (a *Ahead) Open(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	f, err := readForm(ctx, pool, a)
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
	f, err := readForm(ctx, r.pool, nil)
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
