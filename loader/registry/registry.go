// Package registry records loads in the target database: the definition of each load, its
// committed positions, and the leases of its runs. With this record a load can be resumed after
// any end, and shared between runs on several machines. The package writes no loaded rows.
//
// Begin with Queue, which leases positions and records them; fence.go and takeover.go end the
// sessions of dead runs, schema.go has the tables, and upgrade.go opens them.
package registry

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// Errors for errors.Is.
var (
	// ErrNoLoad: the registry has no load of that id.
	ErrNoLoad = failure.New(failure.Refused, "no such load")
	// ErrCancelled: the load was cancelled and cannot go on.
	ErrCancelled = failure.New(failure.Refused, "the load was cancelled")
	// ErrDeferred: the load dropped indexes and has not recreated them.
	ErrDeferred = failure.New(failure.Refused, "indexes that the load dropped are not recreated yet; resume or cancel it first")
	// ErrGaps: the load commits its positions in order, but committed positions follow a gap.
	ErrGaps = failure.New(failure.Refused, "later rows are loaded, but earlier ones are missing")
	// ErrNoRegistry: the database has no registry, so no load was recorded here.
	ErrNoRegistry = failure.New(failure.Refused, "no registry in this database")
)

// A State is the stage of a load.
type State string

// The states of a load.
const (
	Loading   State = "loading"   // not complete: running, or resumable
	Done      State = "done"      // every row confirmed
	Cancelled State = "cancelled" // ended for good: committed rows stay, and the load cannot be resumed
)

// A Load is one row of the registry.
type Load struct {
	ID        string
	Kind      string // points, accounts, csv
	Target    string // the table, quoted if necessary
	State     State
	Positions int64           // rows, or bytes of the source
	Done      chunker.Ranges  // committed positions that no lease covers
	Spec      json.RawMessage // the command's description of the job, to build the same job again
	Created   time.Time
	Finished  time.Time // zero until done
	Job       int64     // ID of the IMPORT job, or zero
	// Generation counts how often Move replaced the positions.
	Generation int64
}

// A Registry is the record of loads in one database. It is safe for concurrent use.
type Registry struct {
	// RetryFor bounds the attempts of one call while the server is away or refuses for a
	// temporary reason. It counts from the first failure. Set it before use.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt, so that a silent connection cannot block a load
	// forever. Set it before use.
	AttemptTimeout time.Duration

	// StaleAfter is how long a run that still has sessions may go without a heartbeat. After
	// that, other runs end its sessions and take over its leases. A run without sessions is
	// taken over at once. FenceTimeout bounds the wait until ended sessions, or sessions that
	// cannot be ended, are gone. Set both before use.
	StaleAfter, FenceTimeout time.Duration

	pool *pgxpool.Pool
	info server.Info

	// db answers what Get, LookedUp and Deferred ask: the pool, or the db of Once.
	db    server.Querier
	once  bool
	ahead *Ahead // may be nil

	// older: the registry may lack tables or columns of this version. Reads do without them;
	// writes upgrade the registry first.
	older *atomic.Bool
}

// DefaultRetryFor is the initial RetryFor of a registry.
const DefaultRetryFor = 5 * time.Minute

// DefaultAttemptTimeout is the initial AttemptTimeout of a registry.
const DefaultAttemptTimeout = time.Minute

func newRegistry(pool *pgxpool.Pool, info server.Info) *Registry {
	return &Registry{RetryFor: DefaultRetryFor, AttemptTimeout: DefaultAttemptTimeout, StaleAfter: StaleAfter, FenceTimeout: fenceTimeout, pool: pool, db: pool, info: info, older: new(atomic.Bool)}
}

// Over returns the same registry, accessed through pool, which must connect to the same
// database.
func (r *Registry) Over(pool *pgxpool.Pool) *Registry {
	o := *r
	o.pool, o.db = pool, pool
	return &o
}

// Once returns the same registry for reading alone, by Get, LookedUp and Deferred: they ask db,
// and make one attempt.
func (r *Registry) Once(db server.Querier) *Registry {
	o := *r
	o.db, o.once = db, true
	return &o
}

// NewID returns a new random id for a load or a run: 8 letters and digits that stay distinct
// when read aloud.
func NewID() string {
	b := make([]byte, 5)
	rand.Read(b) // never fails
	return strings.ToLower(base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(b))
}

// pooledRun ends the id of a run whose sessions are a pooler's.
const pooledRun = "-pooled"

// NewRun returns a new random id for a run on the given server. Behind a pooler it shows that the
// run has no sessions of its own: they serve other clients too, and nobody may end them. The
// run is known to be dead by its heartbeat alone. Its transactions need no fence: they lock their
// lease, and a successor deletes the lease before it reads the ledger.
func NewRun(info server.Info) string {
	if info.Pooled() {
		return NewID() + pooledRun
	}
	return NewID()
}

// isPooled reports whether a run's sessions are a pooler's.
func isPooled(run string) bool { return strings.HasSuffix(run, pooledRun) }

// SessionName returns the application_name of a run's sessions. Fence finds the sessions by it,
// but for those of a pooler, whose names begin otherwise.
func SessionName(load, run string) string {
	if isPooled(run) {
		return "loader pooled " + load + " " + run
	}
	return "loader " + load + " " + run
}

// Add records a new load. A load without positions is done at once.
func (r *Registry) Add(ctx context.Context, l Load) error {
	if err := r.upgrade(ctx); err != nil {
		return err
	}
	state := Loading
	if l.Positions == 0 {
		state = Done // the files are empty
	}
	// ON CONFLICT: if the reply of a first attempt was lost, the second one must not fail.
	return r.exec(ctx, `INSERT INTO loader.loads (id, what, target, state, positions, spec)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
		l.ID, l.Kind, l.Target, string(state), l.Positions, string(l.Spec))
}

// loadColumns returns the columns for scanLoad.
func (r *Registry) loadColumns() string {
	generation := "generation"
	if r.older.Load() {
		generation = "0"
	}
	return columnsOfLoads(generation)
}

// columnsOfLoads returns the columns that scanLoad reads.
func columnsOfLoads(generation string) string {
	return `id, what, target, state, positions, done, spec, ` + server.Micros("created_at") + `, ` + server.Micros("COALESCE(finished_at, 'epoch')") + `, COALESCE(job, 0), ` + generation
}

func scanLoad(row pgx.Row) (Load, error) {
	var l Load
	var state, done, spec string
	var created, finished int64
	if err := row.Scan(&l.ID, &l.Kind, &l.Target, &state, &l.Positions, &done, &spec, &created, &finished, &l.Job, &l.Generation); err != nil {
		return Load{}, err
	}
	l.Created = time.UnixMicro(created)
	if finished != 0 {
		l.Finished = time.UnixMicro(finished)
	}
	l.State, l.Spec = State(state), json.RawMessage(spec)
	var err error
	l.Done, err = chunker.ParseRanges(done)
	return l, err
}

// Get returns the load with the given id, or ErrNoLoad.
func (r *Registry) Get(ctx context.Context, id string) (Load, error) {
	var l Load
	err := r.persist(ctx, func(ctx context.Context) (err error) {
		l, err = scanLoad(r.db.QueryRow(ctx, `SELECT `+r.loadColumns()+` FROM loader.loads WHERE id = $1`, id))
		if errors.Is(err, pgx.ErrNoRows) {
			return permanentError{err}
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
	found, err := r.pool.Query(ctx, `SELECT `+r.loadColumns()+` FROM loader.loads ORDER BY created_at DESC, id`)
	if err == nil {
		var list []Load
		list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Load, error) { return scanLoad(row) })
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("list loads: %w", err)
}

// In returns the committed positions of a load, including those under leases as far as their
// runs have recorded them.
func (r *Registry) In(ctx context.Context, id string) (chunker.Ranges, error) {
	var in chunker.Ranges
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.readState(ctx, tx, id)
		if err != nil {
			return err
		}
		in = b.done
		for _, c := range b.leases {
			in.AddAll(c.done)
		}
		return r.ledger(ctx, tx, id, chunker.Range{End: 1<<63 - 1}, &in)
	})
	return in, err
}

// Rekeyed returns the rows in span that have another key than the seed gives, as row number →
// key.
func (r *Registry) Rekeyed(ctx context.Context, id string, span chunker.Range) (map[int64]int64, error) {
	rekeyed := map[int64]int64{}
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, `SELECT row_number, id FROM loader.moved WHERE load = $1 AND row_number >= $2 AND row_number < $3`, id, span.First, span.End)
		if err != nil {
			return err
		}
		var row, key int64
		_, err = pgx.ForEachRow(found, []any{&row, &key}, func() error { rekeyed[row] = key; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the new keys of rows whose first key was taken: %w", err)
	}
	return rekeyed, nil
}
