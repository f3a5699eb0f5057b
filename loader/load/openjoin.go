package load

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/importer"
	"bulkload/loader/server"
	"bulkload/loader/verify"
)

// options returns the options for committing the load's chunks.
func (o *opening) options() commit.Options {
	c := o.dataset.Options()
	c.Table, c.Load, c.Run = o.table.Name, o.record.load, o.record.run
	c.Mode, c.Method = o.committed()
	c.ChunkTimeout, c.RetryFor, c.Note, c.SkipVerification = o.req.ChunkTimeout, o.req.RetryFor, o.req.Note, o.req.SkipVerification
	c.MaxMessageBytes = o.maxMessage()
	return c
}

// join makes the Load from the results of the other steps.
func (o *opening) join(ctx context.Context) (*Load, error) {
	r := o.record
	var counted func(context.Context) (rejected, read int64, err error)
	if r.exists() {
		counted = func(ctx context.Context) (rejected, read int64, err error) {
			if rejected, err = r.registry.CountRejects(ctx, r.load); err == nil {
				read, err = r.registry.Records(ctx, r.load)
			}
			return rejected, read, err
		}
	}
	if err := o.dataset.Begin(ctx, counted); err != nil {
		return nil, err
	}
	l := &Load{
		ID: r.load, Dataset: o.dataset, Table: o.table, Plan: o.plan, CommitMode: o.choice.Mode, Method: o.choice.Method, Workers: o.workers(),
		Guesses: o.guesses, Notes: append(o.notes, o.sessions.Notes()...), settings: o.req.Settings,
		srv: o.srv, pool: o.pool, sessions: o.sessions, record: r, check: o.check,
		tunes: o.req.Chunk == 0 && o.imported == nil,
	}
	if observe := o.req.Observe; observe != nil {
		l.settings.Observe = func(e loader.Event) {
			o.dataset.Observe(e)
			observe(e)
		}
	} else {
		l.settings.Observe = o.dataset.Observe
	}
	var err error
	l.options = o.options()
	if l.committer, err = commit.New(o.pool, o.srv.Info, l.options); err != nil {
		return nil, &TableError{Reason: err.Error()}
	}
	o.dataset.Raw(l.committer.TakesRaw() && o.imported == nil)
	l.verifier = &verify.Verifier{
		ID: r.load, Dataset: o.dataset, Committer: l.committer, Server: o.srv, Registry: r.registry, Table: o.table, Workers: l.Workers.Start,
		WasEmpty: r.spec.Empty, Stop: o.req.Stop, Note: l.settings.note,
		Elsewhere: o.attached || o.imported != nil && o.imported.Mode == importer.URLs,
	}
	c := o.check
	c.info, c.config, c.pool, c.verifier, c.note = o.srv.Info, o.srv.Config, o.pool, l.verifier, l.settings.note
	c.looksUp = o.imported == nil && l.committer.LooksUp()
	if o.imported != nil {
		l.runner = o.importRunner(l)
	} else {
		l.runner = o.job(l)
	}
	return l, nil
}

// job returns the loader.Job for a load in chunks.
func (o *opening) job(l *Load) *loader.Job {
	s, r := &l.settings, o.record
	job := &loader.Job{
		Ordered: o.dataset.Ordered() != "",
		Source:  o.dataset.Source(), Committer: l.committer, Positions: o.dataset.Size().Positions, Plan: o.plan,
		AutoTune: s.Chunk == 0, MaxRows: o.maxRows(), Workers: l.Workers.Start, MaxWorkers: l.Workers.Max, Waits: o.waits(),
		Stop: s.Stop, Observe: s.Observe, InOrder: o.srv.Product == server.PostgreSQL || o.far() > 0 || s.InOrder || r.spec.InOrder,
		RowsPerSecond: s.Rate, StallTimeout: s.ChunkTimeout, FlowControlled: o.srv.Product == server.CockroachDB && o.srv.AtLeast(25, 1, 0),
	}
	if !r.exists() {
		return job
	}
	queue, claims := r.registry.Queue(r.load, r.run), o.dataset.Leases()
	queue.Block, queue.MinLease, queue.MaxLease, queue.Fit = claims.Block, claims.Min, claims.Max, claims.Fit
	if o.purpose == toCreate {
		queue.Free = []chunker.Range{{End: o.dataset.Size().Positions}}
	}
	if o.choice.Mode == commit.Statement {
		queue.Ahead = claims.Ahead
	}
	queue.Ledger = o.choice.Mode == commit.Transaction && !s.SkipVerification
	queue.Marker, queue.Generation = r.spec.Identity.marker(), r.was.Generation
	queue.InOrder, queue.LooksUp = o.dataset.Ordered() != "", l.committer.LooksUp()
	queue.Waits = func() {
		s.note("waiting for another run of this load to end: " + o.dataset.Ordered())
	}
	o.check.queue, o.check.marks = queue, o.choice.Mode == commit.Statement && o.srv.Product == server.PostgreSQL
	job.Queue = queue
	return job
}

// importRunner returns the runner for a load by IMPORT.
func (o *opening) importRunner(l *Load) *importer.Runner {
	s, r := &l.settings, o.record
	run := &importer.Runner{
		ID: r.load, DB: o.srv, Pool: o.pool, Table: o.table, State: o.imported, Options: s.ImportOptions, Server: o.serving,
		Workers: s.Workers, AttemptTimeout: s.ChunkTimeout, RetryFor: s.RetryFor, Stop: s.Stop, Note: s.Note, Observe: s.Observe, Detail: s.Detail,
	}
	if len(run.Options.Files) == 0 {
		run.Options.Files = o.imported.Files
	}
	m, size := o.dataset.Import(), o.dataset.Size()
	run.Input = importer.Input{
		Source: o.dataset.Source(), Positions: size.Positions, Rows: size.Rows,
		Exact: m.Exact, Fit: m.Fit, Count: m.Count, MaxRecordBytes: m.MaxRecordBytes,
	}
	if m.KeysOf != nil {
		run.Input.Present = func(ctx context.Context, r chunker.Range) (int64, error) { return o.countKeys(ctx, m.KeysOf(r)) }
	}
	if m.Repeats != nil {
		run.Input.Repeated = func(ctx context.Context) (string, error) { return o.firstRepeat(ctx, *l.verifier) }
	}
	if m.Options != nil {
		run.Input.CSV = m.Options(o.imported.Skip)
	}
	if !r.exists() {
		run.ID = r.run // a load without a record has only the run's id
		return run
	}
	q := r.registry.Queue(r.load, r.run)
	q.Block, q.MaxLease, q.MinLease = 0, o.imported.Batch, o.imported.Batch
	if o.imported.Mode != importer.URLs {
		q.Fit = run.Input.Fit
		if o.purpose == toCreate {
			q.Free = []chunker.Range{{End: size.Positions}}
		}
	}
	run.Queue, run.Record = q, r
	return run
}

// countKeys counts the rows of the table with keys in a range.
func (o *opening) countKeys(ctx context.Context, r chunker.Range) (n int64, err error) {
	key := pgx.Identifier{o.dataset.Options().Key}.Sanitize()
	err = o.pool.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s >= $1 AND %s < $2", o.table.Name.Sanitize(), key, key), r.First, r.End).Scan(&n)
	if err != nil {
		err = fmt.Errorf("count the rows of the load's keys: %w", err)
	}
	return n, err
}

// firstRepeat names the first record with the key of an earlier one; empty if there is none, or
// if the server makes the keys.
func (o *opening) firstRepeat(ctx context.Context, v verify.Verifier) (string, error) {
	if o.attached { // the job kept the table offline
		t, err := o.describeResumed(ctx)
		if err != nil {
			return "", err
		}
		o.table = t
		if err := o.fit(ctx); err != nil {
			return "", err
		}
		if v.Committer, err = commit.New(o.pool, o.srv.Info, o.options()); err != nil {
			return "", &TableError{Reason: err.Error()}
		}
	}
	m := o.dataset.Import()
	if !m.OwnKeys {
		return "", nil
	}
	if why := m.Repeats(); why != "" {
		return "", fmt.Errorf("%w: repeated records cannot be detected: %s", loader.ErrUnconfirmed, why)
	}
	return v.FirstRepeat(ctx)
}
