// Package load opens a load on a server: it finds or makes the table, plans, draws
// the keys, enters the load in the registry, and joins source, committer and queue to
// a loader.Job. It also opens recorded loads again, to resume or verify them.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// What names a kind of generated rows.
type What string

// The kinds.
const (
	Points   What = "points"
	Accounts What = "accounts"
)

// Settings say how rows are loaded. They may differ between the runs of a load; what
// it holds never depends on them.
type Settings struct {
	Chunk        int64      // rows per chunk; zero is automatic
	Workers      int        // chunks in flight; zero is automatic
	Via          commit.Via // empty is automatic
	Way          commit.Way // empty is automatic
	ChunkTimeout time.Duration
	RetryFor     time.Duration
	Note         func(string) // see commit.Options.Note
	Observe      func(loader.Event)
	Stop         <-chan struct{}
	Indexes      Indexes // what becomes of secondary indexes; empty keeps them. For new loads
	Unproven     bool    // see commit.Options.Unproven
	// Rate is the most rows per second; zero is no bound. InOrder lets workers
	// take neighbouring spans on every server.
	Rate    float64
	InOrder bool
	// Handoff says how the rows of a load by IMPORT reach the server.
	Handoff importer.Options
	// Detail lets an error quote the row that it is about.
	Detail bool
	// Input opens the files of a load that is resumed. AnyTime goes on with a
	// file whose time alone is another.
	Input   *files.Input
	AnyTime bool
}

// A Request asks for a new load of generated rows.
type Request struct {
	What       What
	Rows       int64
	Seed       uint64
	Table      string // empty is the tutorial's: points, accounts
	Files      *Files // of What CSV, instead of Rows and Seed
	NoRegistry bool   // keep no record: no resume, nothing to verify
	Settings
}

// spec is what the registry keeps to build the same rows again.
type spec struct {
	Seed  uint64     `json:"seed,string"` // a string: JSON numbers end at 2^53
	Base  int64      `json:"base,string,omitempty"`
	Block int64      `json:"block,omitempty"`
	Table []string   `json:"table"`
	Way   commit.Way `json:"way"`
	// Unique are the deferred unique indexes, to name duplicates.
	Unique []uniqueIndex   `json:"unique,omitempty"`
	CSV    *csvSpec        `json:"csv,omitempty"`
	Import *importer.State `json:"import,omitempty"`
}

// A Load is a load that is ready to run or to be verified. Close it after use.
type Load struct {
	ID   string // in the registry; empty without one
	What What
	// Rows is the number of rows; of files about how many, or zero. Positions
	// is the same where rows are generated, else the files' bytes.
	Rows      int64
	Positions int64
	Seed      uint64
	Table     *server.Table
	Job       *loader.Job
	Plan      chunker.Plan
	Way       commit.Way
	Via       commit.Via
	// Notes are what the user should know before the first row.
	Notes []string
	// Keys is the range of keys of a load of points.
	Keys chunker.Range

	run string
	// recalledWay says that loader bench found the way, and that the user names none.
	recalledWay bool
	tuned       registry.Tuning // what the registry recommends; zero is nothing
	settings    Settings
	srv         *server.Server
	pool        *pgxpool.Pool
	registry    *registry.Registry
	committer   *commit.Committer
	spec        spec
	csv         *files.CSV // of What CSV
	input       *files.Input
	tolerance   *tolerance
	prefers     bool            // loader bench found IMPORT the best for this table
	handoff     *importer.State // of Via Import
	serving     *serve.Server   // where the server reads from, if it does
}

// A TableError says that the target does not fit the load. Nothing was written.
type TableError struct{ Reason string }

func (e *TableError) Error() string { return e.Reason }

// New makes the table where it is missing, checks that it fits, and enters the load
// in the registry. It writes no row of the load, and begins anew where a connection
// breaks meanwhile; see server.Again. Errors: *TableError,
// *server.CreateError, *server.ConnectError, and those of the statements in between.
func New(ctx context.Context, srv *server.Server, req Request) (*Load, error) {
	if req.Rows < 1 && req.Files == nil {
		return nil, fmt.Errorf("a load has at least 1 row, not %d", req.Rows)
	}
	return opened(ctx, srv, req.Settings, func(l *Load) {
		l.ID, l.What, l.Rows, l.Positions, l.Seed = registry.NewID(), req.What, req.Rows, req.Rows, req.Seed
		if req.Files != nil {
			l.input = req.Files.Input
		}
	}, func(l *Load) error { return l.prepare(ctx, req) })
}

// opened connects a load that identify has named, and has prepare do the rest. It begins
// anew with another load where a connection breaks.
func opened(ctx context.Context, srv *server.Server, s Settings, identify func(*Load), prepare func(*Load) error) (l *Load, err error) {
	err = server.Again(ctx, func() error {
		l = &Load{run: registry.NewID(), srv: srv}
		identify(l)
		if err := l.connect(ctx, s); err != nil {
			return err
		}
		err := prepare(l)
		if err != nil {
			l.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// ready returns how many sessions are made at once: what is asked first needs one, and so
// does the first worker afterwards; of a load of several chunks another works beside it.
// The others are made when a worker needs them. PostgreSQL makes a process for each, which
// for a small load takes longer than its rows.
func (l *Load) ready() int {
	if l.What == CSV || l.Rows > chunker.DefaultRowsPerChunk {
		return 2
	}
	return 1 // a load that is opened again may have few rows left
}

// extraSessions are those beside the workers': for claims and checkpoints.
const extraSessions = 2

func (l *Load) connect(ctx context.Context, s Settings) error {
	timeout := s.ChunkTimeout
	if timeout <= 0 {
		timeout = commit.DefaultChunkTimeout
	}
	pool, err := l.srv.Pool(ctx, server.Sessions{
		Name: registry.SessionName(l.ID, l.run), Ready: l.ready(), Max: s.sessions(),
		AttemptTimeout: timeout, Prepare: commit.Prepare,
	})
	l.pool = pool
	return err
}

// prepare does the work of New behind the connection.
func (l *Load) prepare(ctx context.Context, req Request) error {
	// 1. The table.
	name := req.Table
	if name == "" {
		name = string(req.What)
	}
	id, err := server.ParseTable(name)
	if err != nil {
		return &TableError{err.Error()}
	}
	if req.What == CSV {
		err = l.prepareCSV(ctx, &req, id)
	} else {
		l.Table, err = ensureTable(ctx, l.pool, l.srv.Info, req.What, id)
	}
	if err != nil {
		return err
	}
	// 2. The way, from where the last load of this table ended.
	if !req.NoRegistry {
		if l.registry, err = registry.Create(ctx, l.pool, l.srv.Info); err != nil {
			return err
		}
		l.limitRegistry(req.Settings)
		if err := l.recall(ctx, &req.Settings); err != nil {
			return err
		}
	}
	if err := l.decide(ctx, &req); err != nil {
		return err
	}
	// 3. The rows: seed, and keys where nobody else's are.
	l.spec.Seed, l.spec.Table = req.Seed, l.Table.Name
	if req.What == CSV {
		if req.NoRegistry && !req.Files.MaxErrors.none() {
			return &TableError{"--max-errors keeps bad rows in the registry, which --no-registry gives up"}
		}
	} else if req.What == Accounts {
		if err := checkRoom(ctx, l.pool, l.Table, req.Rows); err != nil {
			return err
		}
	} else if err := l.drawKeys(ctx); err != nil {
		return err
	}
	// 4. The plan.
	if l.Via == Import {
		err = l.planImport(ctx, req.Settings)
	} else {
		err = l.choose(ctx, req.Settings)
	}
	if err != nil {
		return err
	}
	l.spec.Way = l.Way
	// 5. The record.
	if req.NoRegistry {
		l.ID = ""
		if req.Indexes == DeferIndexes {
			return l.deferIndexes(ctx) // says why not
		}
		return l.join(ctx, req.Settings)
	}
	return l.enter(ctx, req)
}

// limitRegistry has calls of the registry, which was just opened, end as chunks do.
func (l *Load) limitRegistry(s Settings) {
	if s.RetryFor > 0 {
		l.registry.RetryFor = s.RetryFor
	}
	if s.ChunkTimeout > 0 {
		l.registry.AttemptTimeout = s.ChunkTimeout
	}
}

// drawKeys draws the base of the points' keys until the whole range is empty.
func (l *Load) drawKeys(ctx context.Context) error {
	if l.srv.Product == server.CockroachDB && l.Via != Import {
		// PostgreSQL's B-tree fills its pages from keys in order; CockroachDB's
		// ranges are written to in parallel where workers are far apart.
		l.spec.Block = dataset.KeyBlockRows
	}
	key := pgx.Identifier{l.Table.Primary[0]}.Sanitize()
	for range 100 {
		layout := dataset.KeyLayout{Rows: l.Rows, Block: l.spec.Block}
		room := dataset.MaxKeyBase - layout.Range().Len()
		if room <= dataset.MinKeyBase {
			return &TableError{fmt.Sprintf("%d rows have more keys than there are between 2^40 and 2^53", l.Rows)}
		}
		layout.Base = dataset.MinKeyBase + rand.Int64N(room-dataset.MinKeyBase)
		if l.fixedKeys() {
			layout.Base = dataset.BaseOf(l.Seed, l.Rows)
		}
		r := layout.Range()
		var one int
		err := l.pool.QueryRow(ctx, fmt.Sprintf("SELECT 1 FROM %s WHERE %s >= $1 AND %s < $2 LIMIT 1", l.Table.Name.Sanitize(), key, key), r.First, r.End).Scan(&one)
		if errors.Is(err, pgx.ErrNoRows) {
			l.spec.Base, l.Keys = layout.Base, r
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for free keys: %w", err)
		}
		if l.fixedKeys() {
			return &TableError{fmt.Sprintf("%s has rows under the keys of the files that --out writes for seed %d: they may be in already", l.Table.Display(), l.Seed)}
		}
	}
	return &TableError{fmt.Sprintf("no range of %d free keys found in %s in 100 draws", l.Rows, l.Table.Name.Sanitize())}
}

func (l *Load) source() loader.Source {
	if l.What == CSV {
		return l.csv
	}
	if l.What == Accounts {
		return dataset.AccountSource{Seed: l.Seed, Rows: l.Rows}
	}
	return dataset.PointSource{Seed: l.Seed, Keys: dataset.KeyLayout{Base: l.spec.Base, Rows: l.Rows, Block: l.spec.Block}}
}

// Bounds of a claim on the bytes of files: finding where it may end costs reading it
// once more.
const (
	mostClaimBytes  = 64 << 20
	leastClaimBytes = 4 << 20
)

// mostClaim is the most rows that a run claims at once. What a run that dies has
// claimed is looked at again.
const mostClaim = 1 << 20

// carrier returns the way and carrier of chunks. A load by IMPORT has none; its rows are
// verified by what any would do.
func (l *Load) carrier() (commit.Way, commit.Via) {
	if l.Via == Import {
		return commit.Transaction, commit.Insert
	}
	return l.Way, l.Via
}

// options returns how the load's chunks are committed.
func (l *Load) options(s Settings) commit.Options {
	src := l.source()
	if l.What == CSV {
		return l.optionsCSV(s)
	}
	way, via := l.carrier()
	o := commit.Options{
		Table: l.Table.Name, Columns: src.Columns(), Key: l.Table.Primary[0],
		Way: way, Via: via, TextCopy: l.srv.Product == server.CockroachDB || !plainTypes(l.Table, src.Columns()),
		Load: l.ID, Run: l.run, ChunkTimeout: s.ChunkTimeout, RetryFor: s.RetryFor, Note: s.Note, Unproven: s.Unproven,
		MaxMessageBytes: l.mostMessage(),
	}
	if a, ok := src.(dataset.AccountSource); ok {
		o.Redraw = a.Redraw
	}
	return o
}

// join makes the job.
func (l *Load) join(ctx context.Context, s Settings) error {
	if l.What == CSV {
		if err := l.watch(ctx, &s); err != nil {
			return err
		}
	}
	l.settings = s
	var err error
	if l.committer, err = commit.New(l.pool, l.srv.Info, l.options(s)); err != nil {
		return &TableError{err.Error()}
	}
	if l.What == CSV {
		l.csv.Raw = l.committer.TakesRaw() && l.Via != Import
	}
	crew := l.crew(s)
	l.Job = &loader.Job{
		Source: l.source(), Committer: l.committer, Positions: l.Positions, Plan: l.Plan,
		Adapt: s.Chunk == 0, MostRows: l.mostRows(), Workers: crew.Begin, MostWorkers: crew.Most,
		Stop: s.Stop, Observe: s.Observe, Together: l.srv.Product == server.PostgreSQL || s.InOrder, RowsPerSecond: s.Rate,
		StallTimeout: s.ChunkTimeout,
	}
	if l.registry != nil {
		queue := l.registry.Queue(l.ID, l.run)
		queue.Block, queue.Most, queue.Ledger = l.spec.Block, mostClaim, l.Way == commit.Transaction
		queue.InOrder, queue.LooksUp = l.ordered(), l.committer.LooksUp()
		queue.Waits = func() {
			l.note(fmt.Sprintf("another run of this load is at work: with --on-conflict %s this one waits until it has ended", l.spec.CSV.Conflict))
		}
		if l.What == CSV {
			queue.Most, queue.Least, queue.Fit = mostClaimBytes, leastClaimBytes, l.csv.Fit
		}
		l.Job.Queue = queue
	}
	return nil
}

// Run runs the job and, when it ends well, asks the registry whether the load is
// complete. Another run may have loaded a part of it.
func (l *Load) Run(ctx context.Context) (loader.Result, error) {
	run := l.Job.Run
	if l.Via == Import {
		r := l.runner()
		defer func() { l.serving = r.Server }()
		run = r.Run
	}
	done := l.readUntil(ctx, l.settings.Stop)
	res, err := run(ctx)
	done()
	if errors.Is(err, registry.ErrGaps) {
		return res, l.outOfOrder()
	}
	if err != nil {
		return res, err
	}
	if err := l.settle(ctx, res); err != nil || l.registry == nil {
		return res, err
	}
	rec, err := l.registry.Get(ctx, l.ID)
	if err != nil {
		return res, fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	if rec.State != registry.Done {
		return res, fmt.Errorf("%w: the registry has %d of %d %s", loader.ErrUnconfirmed, rec.Done.Len(), rec.Positions, l.unit())
	}
	if l.Via == Import {
		return res, nil
	}
	l.remember(ctx, res)
	return res, l.restoreIndexes(ctx, l.note)
}

// tell keeps what the user should know before the first row.
func (l *Load) tell(text string) { l.Notes = append(l.Notes, text) }

// note passes what a user should know on to the settings' Note.
func (l *Load) note(text string) {
	if l.settings.Note != nil {
		l.settings.Note(text)
	}
}

// Close ends the load's connections.
func (l *Load) Close() {
	if l.pool != nil {
		server.ClosePool(l.pool)
	}
	if l.serving != nil {
		l.serving.Close()
	}
	if l.csv != nil {
		l.csv.Close()
	}
}
