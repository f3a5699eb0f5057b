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

// A purpose is what a load is opened for.
type purpose uint8

// The purposes, as a set of bits.
const (
	toCreate  purpose = 1 << iota // a new load
	toResume                      // to go on with a recorded load, or to verify it
	toPreview                     // a new load that is only planned: nothing is written
	toAll     = toCreate | toResume | toPreview
)

// An opening becomes a Load, step by step. What a flag says, what the record of a resumed load
// says and what is automatic meet here and nowhere else; req is never changed.
type opening struct {
	purpose purpose
	req     Request
	srv     *server.Server
	// missing, of a preview, names a database that is not there yet.
	missing string

	dataset  dataset.Dataset
	table    *server.Table
	ddl      string // of a preview: the statement that would make the table
	pool     *pgxpool.Pool
	sessions *server.Watch
	record   *record
	entered  bool // the registry has the record of a new load
	state    registry.State
	check    *tableCheck
	// deferred is what makes the secondary indexes again that are dropped.
	deferred []server.Remake

	tuned    registry.Tuning // what the registry recommends for chunks; zero is nothing
	byImport bool            // loader bench found IMPORT the best for this table
	choice   dataset.Choice  // what was chosen; Method may be Import
	imported *importer.State // nil: the rows go in chunks
	serving  *serve.Server   // where the server reads from, if it does
	attached bool            // the job of an earlier run has the table offline
	plan     chunker.Plan
	notes    []string
	guesses  []string // about the input, on which values depend
}

// tell adds a note for the user before the first row.
func (o *opening) tell(text string) { o.notes = append(o.notes, text) }

// guess adds what was guessed about the input.
func (o *opening) guess(text string) { o.guesses = append(o.guesses, text) }

// forDataset returns what the dataset may use.
func (o *opening) forDataset() *dataset.Opening {
	d := &dataset.Opening{
		DB: o.pool, Info: o.srv.Info, Table: o.table, Stop: o.req.Stop, Note: o.tell, Guess: o.guess, AnyTime: o.req.AnyTime, Workers: o.req.Workers,
		Imported: o.imported != nil, Fixed: o.imported != nil && o.imported.Mode == importer.URLs,
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

// asked returns how chunks are committed and how they travel, as far as that is said: by the
// record of a resumed load, by a flag or, where recalled says so, by what loader bench found.
func (o *opening) asked() (c dataset.Choice, recalled bool) {
	c = dataset.Choice{Mode: o.req.CommitMode, Method: o.req.Method}
	if c.Method == Import {
		c.Method = "" // chunks, where IMPORT does not take the rows or is only planned
	}
	if o.purpose == toResume {
		c.Mode = o.record.spec.CommitMode
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
	if o.purpose == toPreview {
		s = server.Sessions{Name: registry.SessionName("plan", "plan"), Max: 1, ReadOnly: true, Prepare: commit.Prepare}
	}
	o.sessions = &server.Watch{Note: o.req.Note}
	s.Watch = o.sessions
	var err error
	o.pool, err = o.srv.Pool(ctx, s)
	return err
}

// ready returns the number of sessions that are made at once: one for the opening and then the
// first worker, and one for a second worker where the load has several chunks. Others are made
// when a worker needs them. PostgreSQL makes a process for each session, which takes longer than
// the rows of a small load.
func (o *opening) ready() int {
	if o.dataset == nil {
		return 1 // a resumed load may have few rows left
	}
	if n := o.dataset.Size().Rows; n > 0 && n <= chunker.DefaultRowsPerChunk {
		return 1
	}
	return 2
}

// restoreSession gives the sessions of a resumed load the settings that it began with. The
// settings decide the meaning of a time without a zone, and of a date's numbers.
func (o *opening) restoreSession(ctx context.Context) error {
	was, now := o.record.spec.Session, o.sessions.Settings()
	switch {
	case was == nil:
		if o.dataset.Facts().Texts { // numbers have one meaning
			o.tell(fmt.Sprintf("this load was begun by a version that did not record its session's settings; it goes on with time zone %s and date style %s, which must be those that it began with", now["timezone"], now["datestyle"]))
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

// close releases everything that a failed opening holds.
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
