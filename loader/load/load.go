// Package load opens a load on a server: it finds or makes the table, plans, draws
// the keys, enters the load in the registry, and joins source, committer and queue to
// a loader.Job. It also opens recorded loads again, to resume or verify them.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Settings say how rows are loaded. They may differ between the runs of a load; what
// it holds never depends on them.
type Settings struct {
	Chunk            int64         // rows per chunk; zero is automatic
	Workers          int           // chunks in flight; zero is automatic
	Method           commit.Method // empty is automatic
	CommitMode       commit.Mode   // empty is automatic
	ChunkTimeout     time.Duration
	RetryFor         time.Duration
	Note             func(string) // see commit.Options.Note
	Observe          func(loader.Event)
	Stop             <-chan struct{}
	StaleAfter       time.Duration // see registry.Registry; zero is its default
	Indexes          Indexes       // what becomes of secondary indexes; empty keeps them. For new loads
	SkipVerification bool          // see commit.Options.SkipVerification
	// Rate is the most rows per second; zero is no bound. InOrder lets workers
	// take neighbouring spans on every server.
	Rate    float64
	InOrder bool
	// ImportOptions say how the rows of a load by IMPORT reach the server.
	ImportOptions importer.Options
	// Detail lets an error quote the row that it is about.
	Detail bool
	// Input opens the files of a load that is resumed. AnyTime goes on with a
	// file whose time alone is another.
	Input   *files.Input
	AnyTime bool
}

// A Request asks for a new load.
type Request struct {
	Dataset    dataset.Dataset
	Table      string // empty is the dataset's own
	NoRegistry bool   // keep no record: no resume, nothing to verify
	Settings
}

// spec is what the record keeps of a load, beside what the dataset keeps of itself.
type spec struct {
	Table      []string    `json:"table"`
	CommitMode commit.Mode `json:"way"`
	// InOrder says that the user wanted the order of the input.
	InOrder bool `json:"in_order,omitempty"`
	// Unique are the deferred unique indexes, to name duplicates.
	Unique []uniqueIndex   `json:"unique,omitempty"`
	Empty  bool            `json:"empty,omitempty"` // the table had no row when the load began
	Import *importer.State `json:"import,omitempty"`
	// Identity is that of the table; older versions did not keep it.
	Identity *identity `json:"identity,omitempty"`
	// Session are the settings that give texts their meaning, as they were when the
	// load began; nil of a load that an older version recorded.
	Session map[string]string `json:"session,omitempty"`
}

// A Load is a load that is ready to run or to be verified. Close it after use.
type Load struct {
	ID         string // in the registry; empty without one
	Dataset    dataset.Dataset
	Table      *server.Table
	Job        *loader.Job
	Plan       chunker.Plan
	CommitMode commit.Mode
	Method     commit.Method
	// Notes are what the user should know before the first row.
	Notes []string

	run     string
	running atomic.Bool // with a registry: new sessions are admitted by it
	// recalledWay says that loader bench found the way, and that the user names none.
	recalledWay bool

	tuned     registry.Tuning // what the registry recommends; zero is nothing
	settings  Settings
	srv       *server.Server
	pool      *pgxpool.Pool
	sessions  *server.Watch // of pool's sessions
	registry  *registry.Registry
	committer *commit.Committer
	spec      spec
	prefers   bool            // loader bench found IMPORT the best for this table
	handoff   *importer.State // of Via Import
	serving   *serve.Server   // where the server reads from, if it does
	// storage is that of the table when this run began, or last found the rows there.
	storage  string
	doubt    string          // why the rows on record may be gone; empty for none
	recorded json.RawMessage // the specification as the registry has it
	queue    *registry.Queue // of the job; nil without a registry
}

// A TableError says that the target does not fit the load. Nothing was written.
type TableError = dataset.TableError

// New makes the table where it is missing, checks that it fits, and enters the load
// in the registry. It writes no row of the load, and begins anew where a connection
// breaks meanwhile; see server.Again. Errors: *TableError,
// *server.CreateError, *server.ConnectError, and those of the statements in between.
func New(ctx context.Context, srv *server.Server, req Request) (*Load, error) {
	return opened(ctx, srv, req.Settings, func(l *Load) { l.ID, l.Dataset = registry.NewID(), req.Dataset.Fresh() }, func(l *Load) error { return l.prepare(ctx, req) })
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
	l.Notes = append(l.Notes, l.sessions.Notes()...)
	return l, nil
}

// ready returns how many sessions are made at once: what is asked first needs one, and so
// does the first worker afterwards; of a load of several chunks another works beside it.
// The others are made when a worker needs them. PostgreSQL makes a process for each, which
// for a small load takes longer than its rows.
func (l *Load) ready() int {
	if l.Dataset == nil {
		return 1 // a load that is opened again may have few rows left
	}
	if n := l.Dataset.Size().Rows; n > 0 && n <= chunker.DefaultRowsPerChunk {
		return 1
	}
	return 2
}

// extraSessions are those beside the workers': for claims and checkpoints.
const extraSessions = 2

func (l *Load) connect(ctx context.Context, s Settings) error {
	timeout := s.ChunkTimeout
	if timeout <= 0 {
		timeout = commit.DefaultChunkTimeout
	}
	l.sessions = &server.Watch{Note: s.Note}
	pool, err := l.srv.Pool(ctx, server.Sessions{
		Name: registry.SessionName(l.ID, l.run), Ready: l.ready(), Max: s.sessions(),
		AttemptTimeout: timeout, Prepare: commit.Prepare, Settings: l.spec.Session, Watch: l.sessions,
		Ask: l.askAdmission, Answered: l.admitted,
	})
	l.pool = pool
	return err
}

// askAdmission returns the query by which a new session of a run that others have taken for
// dead and fenced is refused: the run was stopped, and wakes. Before the run has begun there
// are no claims to lose.
func (l *Load) askAdmission() string {
	if !l.running.Load() {
		return ""
	}
	return l.registry.AskAdmission(l.ID, l.run)
}

func (l *Load) admitted(_ *pgx.Conn, rows [][][]byte) error {
	return registry.Admitted(l.ID, l.run, rows)
}

// prepare does the work of New behind the connection.
func (l *Load) prepare(ctx context.Context, req Request) error {
	// 1. What is read, and the table.
	o := l.opening(req.Settings)
	if err := l.Dataset.Inspect(ctx, o); err != nil {
		return err
	}
	name := req.Table
	if name == "" {
		name = l.Dataset.Facts().Table
	}
	id, err := server.ParseTable(name)
	if err != nil {
		return &TableError{Reason: err.Error()}
	}
	if l.Table, err = l.ensureTable(ctx, id); err != nil {
		return err
	}
	o.Table = l.Table
	if err := l.Dataset.Fit(ctx, o); err != nil {
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
	// 3. The rows' keys, where nobody else's are.
	l.spec.Table, l.spec.InOrder = l.Table.Name, req.InOrder
	o.Imported, o.Fixed = l.Method == Import, l.handoff != nil && l.handoff.Mode == importer.URLs
	if err := l.Dataset.Reserve(ctx, o); err != nil {
		return err
	}
	l.recognise()
	// 4. The plan.
	if l.Method == Import {
		err = l.planImport(ctx, req.Settings)
	} else {
		err = l.choose(ctx, o, req.Settings)
	}
	if err != nil {
		return err
	}
	l.spec.CommitMode = l.CommitMode
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
	if s.StaleAfter > 0 {
		l.registry.StaleAfter = s.StaleAfter
	}
}

// opening returns what the dataset may use while the load is opened.
func (l *Load) opening(s Settings) *dataset.Opening {
	o := &dataset.Opening{DB: l.pool, Info: l.srv.Info, Table: l.Table, Stop: s.Stop, Note: l.tell, AnyTime: s.AnyTime, Workers: s.Workers, RecalledMode: l.recalledWay}
	if s.Input != nil {
		o.Input = s.Input
	}
	return o
}

// carrier returns the way and carrier of chunks. A load by IMPORT has none; its rows are
// verified by what any would do.
func (l *Load) carrier() (commit.Mode, commit.Method) {
	if l.Method == Import {
		return commit.Transaction, commit.Insert
	}
	return l.CommitMode, l.Method
}

// options returns how the load's chunks are committed.
func (l *Load) options(s Settings) commit.Options {
	o := l.Dataset.Options()
	o.Table, o.Load, o.Run = l.Table.Name, l.ID, l.run
	o.Mode, o.Method = l.carrier()
	o.ChunkTimeout, o.RetryFor, o.Note, o.SkipVerification = s.ChunkTimeout, s.RetryFor, s.Note, s.SkipVerification
	o.MaxMessageBytes = l.mostMessage()
	return o
}

// join makes the job.
func (l *Load) join(ctx context.Context, s Settings) error {
	var rejected func(context.Context) (int64, error)
	if l.registry != nil {
		rejected = func(ctx context.Context) (int64, error) { return l.registry.CountRejects(ctx, l.ID) }
	}
	if err := l.Dataset.Begin(ctx, rejected); err != nil {
		return err
	}
	if observe := s.Observe; observe != nil {
		s.Observe = func(e loader.Event) {
			l.Dataset.Observe(e)
			observe(e)
		}
	} else {
		s.Observe = l.Dataset.Observe
	}
	l.settings = s
	var err error
	if l.committer, err = commit.New(l.pool, l.srv.Info, l.options(s)); err != nil {
		return &TableError{Reason: err.Error()}
	}
	l.Dataset.Raw(l.committer.TakesRaw() && l.Method != Import)
	crew := l.crew(s)
	l.Job = &loader.Job{
		Source: l.Dataset.Source(), Committer: l.committer, Positions: l.Dataset.Size().Positions, Plan: l.Plan,
		AutoTune: s.Chunk == 0, MaxRows: l.mostRows(), Workers: crew.Start, MaxWorkers: crew.Max,
		Stop: s.Stop, Observe: s.Observe, InOrder: l.srv.Product == server.PostgreSQL || s.InOrder, RowsPerSecond: s.Rate,
		StallTimeout: s.ChunkTimeout,
	}
	if l.registry != nil {
		queue, claims := l.registry.Queue(l.ID, l.run), l.Dataset.Leases()
		queue.Block, queue.MinLease, queue.MaxLease, queue.Fit = claims.Block, claims.Min, claims.Max, claims.Fit
		queue.Ledger = l.CommitMode == commit.Transaction && !s.SkipVerification
		queue.Marker = l.spec.Identity.marker()
		queue.InOrder, queue.LooksUp = l.Dataset.Ordered() != "", l.committer.LooksUp()
		queue.Waits = func() {
			l.note("another run of this load is at work, and this one waits until it has ended: " + l.Dataset.Ordered())
		}
		l.Job.Queue, l.queue = queue, queue
	}
	return nil
}

// Run runs the job and, when it ends well, asks the registry whether the load is
// complete. Another run may have loaded a part of it.
func (l *Load) Run(ctx context.Context) (loader.Result, error) {
	run := l.Job.Run
	if l.Method == Import {
		r := l.runner()
		defer func() { l.serving = r.Server }()
		run = r.Run
	}
	l.running.Store(l.registry != nil)
	done := l.readUntil(ctx, l.settings.Stop)
	defer done()
	if err := l.checkRecorded(ctx); err != nil {
		return loader.Result{}, err
	}
	res, err := run(ctx)
	if err != nil {
		return res, l.lost(res, err)
	}
	if err := l.settle(ctx, res); err != nil {
		return res, err
	}
	if l.registry == nil {
		if err := l.checkEnd(ctx, l.spec.Identity, res); err != nil {
			return res, err
		}
		return res, l.confirm(ctx, res)
	}
	rec, err := l.registry.Get(ctx, l.ID)
	if err != nil {
		return res, unconfirmed(err)
	}
	if rec.State != registry.Done {
		return res, fmt.Errorf("%w: the registry has %d of %d %s", loader.ErrUnconfirmed, rec.Done.Len(), rec.Positions, l.Dataset.Facts().Unit)
	}
	var now spec
	if err := json.Unmarshal(rec.Spec, &now); err != nil {
		return res, unconfirmed(err)
	}
	if err := l.checkEnd(ctx, now.Identity, res); err != nil {
		return res, err
	}
	if l.Method == Import {
		return res, nil
	}
	l.remember(ctx, res)
	if err := l.restoreIndexes(ctx, l.note); err != nil {
		return res, err
	}
	return res, l.confirm(ctx, res)
}

// unconfirmed returns err, of a question for what is in, as one that leaves it open. A load that
// was ended meanwhile is no such question.
func unconfirmed(err error) error {
	if failure.Of(err) == failure.Refused {
		return err
	}
	return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
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
	if l.Dataset != nil {
		l.Dataset.Close()
	}
}
