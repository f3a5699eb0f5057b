package load

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A purpose is the reason for opening a load.
type purpose uint8

// The purposes, as a set of bits.
const (
	toCreate  purpose = 1 << iota // a new load
	toResume                      // to resume or verify a recorded load
	toPreview                     // to plan a new load: nothing is written
	toFile                        // to write the rows to files
	toAll     = toCreate | toResume | toPreview
)

// An opening becomes a Load, step by step. It alone combines flags, the record of a resumed
// load, and automatic choices; req never changes.
type opening struct {
	purpose purpose
	req     Request
	srv     *server.Server
	// missing, of a preview, names a database that does not exist yet.
	missing string

	dataset  dataset.Dataset
	table    *server.Table
	ddl      string // of a preview: the CREATE TABLE statement of a missing table
	pool     *pgxpool.Pool
	sessions *server.Watch
	record   *record
	entered  bool // the registry has a new load's record
	// Answers that later steps need, asked together with the description of the table; nil if
	// they were not.
	ahead      *registry.Ahead
	limitsRead chunker.Limits
	timeline   string // of the server: see server.Timeline
	state      registry.State
	check      *tableCheck
	// deferred are the secondary indexes to drop, with the statements that create them again.
	deferred []server.Remake

	tuned    registry.Tuning // the registry's recommendation for chunks; zero is none
	byImport bool            // loader bench found IMPORT the fastest for this table
	choice   dataset.Choice  // the final choice; Method may be Import
	imported *importer.State // nil: the rows are loaded in chunks
	serving  *serve.Server   // the file server that the server reads from, or nil
	attached bool            // an earlier run's job keeps the table offline
	plan     chunker.Plan
	notes    []string
	guesses  []string // about the input; values depend on them
}

// tell adds a note for the user before the first row.
func (o *opening) tell(text string) { o.notes = append(o.notes, text) }

// guess adds a guess about the input.
func (o *opening) guess(text string) { o.guesses = append(o.guesses, text) }

// forDataset returns the parts of the opening that the dataset may use.
func (o *opening) forDataset() *dataset.Opening {
	d := &dataset.Opening{
		DB: o.pool, Info: o.srv.Info, Table: o.table, Stop: o.req.Stop, Note: o.tell, Guess: o.guess, AnyTime: o.req.AnyTime, Workers: o.req.Workers, Pooled: o.srv.Pooled(),
		ToFile: o.purpose == toFile, Loaded: o.loaded, Imported: o.imported != nil, Fixed: o.imported != nil && o.imported.Mode == importer.URLs,
	}
	if o.req.Input != nil {
		d.Input = o.req.Input
	}
	if o.purpose == toResume {
		d.Resumed = o.record.load
	}
	_, d.RecalledMode = o.asked()
	return d
}

// asked returns the requested commit mode and method: from the record of a resumed load, from
// flags or, if recalled is set, from the result of loader bench.
func (o *opening) asked() (c dataset.Choice, recalled bool) {
	c = dataset.Choice{Mode: o.req.CommitMode, Method: o.req.Method}
	if c.Method == Import {
		c.Method = "" // for chunks: IMPORT may refuse the rows, or only be planned
	}
	if o.purpose == toResume {
		c.Mode = o.record.spec.CommitMode
	}
	if o.srv.Pooled() && c.Mode == "" {
		c.Mode = commit.Transaction // see throughPooler
	}
	if o.tuned.Origin != registry.ByBench {
		return c, false
	}
	if c.Mode == "" {
		c.Mode, recalled = commit.Mode(o.tuned.CommitMode), true
	}
	if c.Method == "" {
		c.Method = commit.Method(o.tuned.Method)
	}
	return c, recalled
}

// connect opens the sessions of the load.
func (o *opening) connect(ctx context.Context) error {
	s := server.Sessions{
		Name: registry.SessionName(o.record.load, o.record.run), Ready: o.ready(), Max: o.req.sessions(),
		AttemptTimeout: o.req.attemptTimeout(), Prepare: commit.Prepare, Settings: o.record.spec.Session,
		Ask: o.record.askAdmission, Answered: o.record.admitted,
	}
	if o.purpose == toPreview || o.purpose == toFile {
		s = server.Sessions{Name: registry.SessionName("plan", "plan"), Max: 1, ReadOnly: o.purpose == toPreview, Prepare: commit.Prepare}
	}
	o.sessions = &server.Watch{Note: o.req.Note}
	s.Watch = o.sessions
	var err error
	o.pool, err = o.srv.Pool(ctx, s)
	return err
}

// ready returns the number of sessions opened at the start: one for the opening and then the
// first worker, and one for a second worker if the load has several chunks. Others are opened
// when a worker needs them. PostgreSQL starts a process for each session, which takes longer
// than loading the rows of a small load.
func (o *opening) ready() int {
	if o.dataset == nil {
		return 1 // a resumed load may have few rows left
	}
	n := o.dataset.Size().Rows
	switch {
	case n > 0 && n <= chunker.DefaultRowsPerChunk:
		return 1
	case n > 0 && o.far() > 0 && o.req.Workers == 0:
		// They connect during the round trips of the opening.
		return int(min(max(n/max(o.dataset.ChunkRows(), chunker.DefaultRowsPerChunk), 2), farSessions))
	}
	return 2
}

// farSessions is the number of sessions opened at the start to a far server.
const farSessions = 6

// restoreSession gives a resumed load's sessions the settings of its first run. They decide the
// meaning of a time without a zone, and of a date's numbers.
func (o *opening) restoreSession(ctx context.Context) error {
	was, now := o.record.spec.Session, o.sessions.Settings()
	switch {
	case was == nil:
		if o.dataset.Facts().Texts { // numbers are unambiguous
			o.tell(fmt.Sprintf("an older version of loader began this load and did not record its session settings; resuming with time zone %s and date style %s, which must be the original ones", now["timezone"], now["datestyle"]))
		}
		return nil
	case maps.Equal(was, now):
		return nil
	}
	server.ClosePool(o.pool)
	if err := o.connect(ctx); err != nil {
		return err
	}
	o.record.registry = o.record.registry.Over(o.pool)
	return o.pool.Ping(ctx)
}

// tableName returns the name of the load's table, for New.
func (o *opening) tableName() (pgx.Identifier, error) {
	name := o.req.Table
	if name == "" {
		name = o.dataset.Facts().Table
	}
	id, err := server.ParseTable(name)
	if err != nil {
		return nil, &TableError{Reason: err.Error()}
	}
	return id, nil
}

// close releases the resources of a failed opening.
func (o *opening) close() {
	if o.serving != nil {
		o.serving.Close()
	}
	if o.pool != nil {
		server.ClosePool(o.pool)
	}
	if o.dataset != nil {
		o.dataset.Close()
	}
}
