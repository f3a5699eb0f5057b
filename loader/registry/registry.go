// Package registry keeps the record of loads in the target database: what each load
// is, which of its positions are in, and which run works on which of them. It is
// what makes a load resumable after any end, and shareable between runs on several
// machines. It writes no loaded rows.
package registry

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader/server"
)

// Schema is the schema that holds the registry's tables.
const Schema = "loader"

// The registry's tables. Positions are row numbers or byte offsets; lo is
// inclusive, hi is not. They are made outside of any load's transactions, since
// DDL commits by itself on CockroachDB from 25.1 on.
var tables = []struct{ name, ddl string }{
	// One row a load. done holds the positions that are in and under no
	// claim, as chunker.Ranges writes them.
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
		job BIGINT)`},
	// One row for each range that a run works on.
	{"claims", `CREATE TABLE IF NOT EXISTS loader.claims (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		run TEXT NOT NULL,
		done TEXT NOT NULL DEFAULT '',
		beat TIMESTAMPTZ NOT NULL DEFAULT now(),
		PRIMARY KEY (load, lo))`},
	// One row for each chunk that the transaction way committed and that lies
	// in a claim; written in the transaction of the chunk's rows.
	{"ledger", `CREATE TABLE IF NOT EXISTS loader.ledger (
		load TEXT NOT NULL,
		lo BIGINT NOT NULL,
		hi BIGINT NOT NULL,
		PRIMARY KEY (load, lo))`},
	// Rows whose generated key belonged to somebody else's row: the key that
	// they have instead.
	{"moved", `CREATE TABLE IF NOT EXISTS loader.moved (
		load TEXT NOT NULL,
		row_number BIGINT NOT NULL,
		id BIGINT NOT NULL,
		PRIMARY KEY (load, row_number))`},
	// Secondary indexes that a load has dropped, or is about to.
	{"indexes", `CREATE TABLE IF NOT EXISTS loader.indexes (
		load TEXT NOT NULL,
		name TEXT NOT NULL,
		place BIGINT NOT NULL,
		ddl TEXT NOT NULL,
		PRIMARY KEY (load, name))`},
	// Records of a file that are no rows: written in the transaction of their
	// chunk.
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
	// How a table was loaded best so far.
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
}

// Errors for errors.Is.
var (
	// ErrNoLoad: the registry has no load of that id.
	ErrNoLoad = errors.New("no such load")
	// ErrCancelled: the load was cancelled and cannot go on.
	ErrCancelled = errors.New("the load was cancelled")
	// ErrDeferred: the load has dropped indexes and not made them again.
	ErrDeferred = errors.New("indexes that the load dropped are not there again; resume or cancel it first")
	// ErrGaps: positions are in that lie behind others that are not, of a load whose
	// positions are committed in order.
	ErrGaps = errors.New("rows are in that come behind others that are not")
	// ErrNoRegistry: the database has no registry; nothing was loaded here.
	ErrNoRegistry = errors.New("no registry in this database")
)

// A State is where a load stands.
type State string

// The states of a load.
const (
	Loading   State = "loading"   // not complete: running, or to be resumed
	Done      State = "done"      // every row confirmed
	Cancelled State = "cancelled" // given up: its rows so far stay, and it cannot be resumed
)

// A Load is one row of the registry.
type Load struct {
	ID        string
	What      string // points, accounts, csv
	Target    string // the table, quoted where it needs to be
	State     State
	Positions int64           // rows, or bytes of the source
	Done      chunker.Ranges  // positions that are in and under no claim
	Spec      json.RawMessage // what the command needs to build the same job again
	Created   time.Time
	Finished  time.Time // zero until done
	Job       int64     // IMPORT job, or zero
}

// A Registry is the record of loads in one database. It is safe for concurrent use.
type Registry struct {
	// RetryFor bounds the attempts at one call, from the first that fails, while the
	// server is away or refuses for a reason that may pass. Set it before use.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt: a connection that has gone silent must not
	// hold a load for ever. Set it before use.
	AttemptTimeout time.Duration

	pool *pgxpool.Pool
	info server.Info
}

// DefaultRetryFor is the RetryFor of a registry that was just opened.
const DefaultRetryFor = 5 * time.Minute

// DefaultAttemptTimeout is its AttemptTimeout.
const DefaultAttemptTimeout = time.Minute

func newRegistry(pool *pgxpool.Pool, info server.Info) *Registry {
	return &Registry{RetryFor: DefaultRetryFor, AttemptTimeout: DefaultAttemptTimeout, pool: pool, info: info}
}

// Over returns the registry over other sessions with its database.
func (r *Registry) Over(pool *pgxpool.Pool) *Registry {
	o := *r
	o.pool = pool
	return &o
}

// NewID returns a new random id, for a load or a run: 8 letters and digits that can
// be told apart when read aloud.
func NewID() string {
	b := make([]byte, 5)
	rand.Read(b) // never fails
	return strings.ToLower(base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(b))
}

// SessionName returns the application_name of a run's sessions, by which Fence
// finds them.
func SessionName(load, run string) string { return "loader " + load + " " + run }

// Open returns the registry of the database that pool connects to, or ErrNoRegistry.
// It writes nothing.
func Open(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	var names []string
	for _, t := range tables {
		names = append(names, t.name)
	}
	var n int
	err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname = ANY($2)`, Schema, names).Scan(&n)
	if err != nil {
		return nil, fmt.Errorf("look for the registry: %w", err)
	}
	if n < len(tables) {
		return nil, ErrNoRegistry
	}
	return newRegistry(pool, info), nil
}

// Create is Open, and makes the registry where it is missing. A *server.CreateError
// says that the user may not.
func Create(ctx context.Context, pool *pgxpool.Pool, info server.Info) (*Registry, error) {
	r, err := Open(ctx, pool, info)
	if !errors.Is(err, ErrNoRegistry) {
		return r, err
	}
	if err := server.CreateIfMissing(ctx, pool, "schema", Schema, "CREATE SCHEMA IF NOT EXISTS loader"); err != nil {
		return nil, err
	}
	for _, t := range tables {
		if err := server.CreateIfMissing(ctx, pool, "table", Schema+"."+t.name, t.ddl); err != nil {
			return nil, err
		}
	}
	return newRegistry(pool, info), nil
}

// Add records a new load.
func (r *Registry) Add(ctx context.Context, l Load) error {
	state := Loading
	if l.Positions == 0 {
		state = Done // files without a byte
	}
	// ON CONFLICT, not to fail when the reply of a first attempt was lost.
	return r.exec(ctx, `INSERT INTO loader.loads (id, what, target, state, positions, spec)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
		l.ID, l.What, l.Target, string(state), l.Positions, string(l.Spec))
}

const loadColumns = `id, what, target, state, positions, done, spec, created_at, COALESCE(finished_at, 'epoch'), COALESCE(job, 0)`

func scanLoad(row pgx.Row) (Load, error) {
	var l Load
	var state, done, spec string
	if err := row.Scan(&l.ID, &l.What, &l.Target, &state, &l.Positions, &done, &spec, &l.Created, &l.Finished, &l.Job); err != nil {
		return Load{}, err
	}
	if l.Finished.Unix() == 0 {
		l.Finished = time.Time{}
	}
	l.State, l.Spec = State(state), json.RawMessage(spec)
	var err error
	l.Done, err = chunker.ParseRanges(done)
	return l, err
}

// Get returns the load of that id, or ErrNoLoad.
func (r *Registry) Get(ctx context.Context, id string) (Load, error) {
	var l Load
	err := r.persist(ctx, func(ctx context.Context) (err error) {
		l, err = scanLoad(r.pool.QueryRow(ctx, `SELECT `+loadColumns+` FROM loader.loads WHERE id = $1`, id))
		if errors.Is(err, pgx.ErrNoRows) {
			return ours{err}
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Load{}, fmt.Errorf("%w: %s", ErrNoLoad, id)
	}
	if err != nil {
		return Load{}, fmt.Errorf("read load %s: %w", id, err)
	}
	return l, nil
}

// List returns all loads, the newest first.
func (r *Registry) List(ctx context.Context) ([]Load, error) {
	found, err := r.pool.Query(ctx, `SELECT `+loadColumns+` FROM loader.loads ORDER BY created_at DESC, id`)
	if err == nil {
		var list []Load
		list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Load, error) { return scanLoad(row) })
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("list loads: %w", err)
}

// In returns the positions of a load that are in, those under claims included, as
// far as their runs have recorded them.
func (r *Registry) In(ctx context.Context, id string) (chunker.Ranges, error) {
	var in chunker.Ranges
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.read(ctx, tx, id)
		if err != nil {
			return err
		}
		in = b.done
		for _, c := range b.claims {
			in.AddAll(c.done)
		}
		return r.ledger(ctx, tx, id, chunker.Range{End: 1<<63 - 1}, &in)
	})
	return in, err
}

// Moved returns, of the rows in span, those that have another key than the seed
// gives, as row number → key.
func (r *Registry) Moved(ctx context.Context, id string, span chunker.Range) (map[int64]int64, error) {
	found, err := r.pool.Query(ctx, `SELECT row_number, id FROM loader.moved WHERE load = $1 AND row_number >= $2 AND row_number < $3`, id, span.First, span.End)
	if err != nil {
		return nil, fmt.Errorf("read moved rows: %w", err)
	}
	moved := map[int64]int64{}
	var row, key int64
	_, err = pgx.ForEachRow(found, []any{&row, &key}, func() error { moved[row] = key; return nil })
	if err != nil {
		return nil, fmt.Errorf("read moved rows: %w", err)
	}
	return moved, nil
}
