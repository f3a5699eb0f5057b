// Package load opens a load on a server, runs it, and reports whether its rows are committed.
// Opening finds or creates the table, plans, reserves keys, records the load in the registry,
// and connects source, committer and queue to a runner. Package dataset, files or anytable
// produces the rows; a loader.Job or package importer sends them.
//
// Begin with New, Resume and NewPreview, which share the table of steps in steps.go, and with
// Load.Run.
package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/importer"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
	"bulkload/loader/server"
	"bulkload/loader/verify"
)

// A Load is ready to run or to be verified. Close it after use. Opening sets all fields; they
// are valid for every kind of rows.
type Load struct {
	ID      string // in the registry; empty without a record
	Dataset dataset.Dataset
	Table   *server.Table
	// Plan says how the rows are cut into chunks. The plan of a load by IMPORT has no chunks.
	Plan chunker.Plan
	// CommitMode and Method say how chunks are committed and sent. A load by IMPORT has the
	// Method Import, and no CommitMode.
	CommitMode commit.Mode
	Method     commit.Method
	Workers    WorkerCount
	// Notes are messages for the user before the first row. Guesses are the guesses about the
	// input that affect values.
	Notes, Guesses []string

	settings  Settings
	srv       *server.Server
	pool      *pgxpool.Pool
	sessions  *server.Watch // of pool's sessions
	record    *record
	check     *tableCheck
	verifier  *verify.Verifier
	options   commit.Options // of committer
	committer *commit.Committer
	runner    runner
	ending    ending
	// tunes says that the run may change the size of chunks, and that the registry records the
	// final size.
	tunes bool
}

// A runner loads the rows: a *loader.Job in chunks, an *importer.Runner by IMPORT.
type runner interface {
	Run(context.Context) (loader.Result, error)
}

// Run loads the missing rows. A nil error means that the server has confirmed every row of the
// load, from this run and others. Run must be called at most once.
func (l *Load) Run(ctx context.Context) (loader.Result, error) {
	l.record.running.Store(l.record.exists())
	defer dataset.ReadUntil(ctx, l.Dataset, l.settings.Stop)()
	if err := l.throughPooler(ctx); err != nil {
		return loader.Result{}, err
	}
	if err := l.truncate(ctx); err != nil {
		return loader.Result{}, err
	}
	if err := l.check.beforeRun(ctx); err != nil {
		return loader.Result{}, err
	}
	res, err := l.runner.Run(ctx)
	if err != nil {
		if err = l.check.redefined(ctx, l.check.lost(ctx, res, err)); res.Rows == 0 {
			err = l.record.unmake(ctx, l.srv, l.pool, l.Table, err)
		}
		return res, err
	}
	l.ending = l.readEnding(ctx)
	for _, step := range []func(context.Context, loader.Result) error{l.settle, l.complete, l.remember, l.restoreIndexes, l.replace, l.confirm} {
		if err := step(ctx, res); err != nil {
			return res, err
		}
	}
	return res, nil
}

// An ending holds answers for the steps after the last row, read in one round trip. A step reads
// an answer that is missing here by itself, with retries.
type ending struct {
	looked   *chunker.Ranges
	load     *registry.Load
	identity *server.Identity
	deferred []registry.Index
	listed   bool // deferred was read
}

// readEnding reads the ending of the load.
func (l *Load) readEnding(ctx context.Context) (e ending) {
	if !l.record.exists() {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, l.settings.attemptTimeout())
	defer cancel()
	with := func(read func(*registry.Registry) error) func(context.Context, server.Querier) error {
		return func(_ context.Context, db server.Querier) error { return read(l.record.registry.Once(db)) }
	}
	readers := []func(context.Context, server.Querier) error{
		with(func(r *registry.Registry) error {
			load, err := r.Get(ctx, l.ID)
			if err == nil {
				e.load = &load
			}
			return nil
		}),
		with(func(r *registry.Registry) error {
			list, err := r.Deferred(ctx, l.ID)
			e.deferred, e.listed = list, err == nil
			return nil
		}),
		func(ctx context.Context, db server.Querier) error {
			now, err := server.Identify(ctx, db, l.srv.Info, l.Table.Name)
			if err == nil {
				e.identity = &now
			}
			return nil
		},
	}
	if l.committer.LooksUp() {
		readers = append(readers, with(func(r *registry.Registry) error {
			looked, err := r.LookedUp(ctx, l.ID)
			if err == nil {
				e.looked = &looked
			}
			return nil
		}))
	}
	server.Together(ctx, l.pool, readers...)
	return e
}

// settle makes sure that no record of a verified chunk is repeated in the input. After an
// uncertain outcome, a row found in the table may come from another record with the same key;
// then one of the two records is missing. A repeated record is an error, and the load is not
// complete. settle reads the input again; the server decides which keys are equal.
func (l *Load) settle(ctx context.Context, res loader.Result) error {
	looked := res.LookedUp
	if l.ending.looked != nil {
		looked = *l.ending.looked
	} else if l.record.exists() && l.committer.LooksUp() {
		var err error
		if looked, err = l.record.registry.LookedUp(ctx, l.ID); err != nil {
			return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
		}
	}
	if looked.Len() == 0 {
		return nil
	}
	l.ending = ending{} // settling changes it
	l.settings.note("reading the input again: some commits had an uncertain outcome, and the input may hold a record twice")
	defer dataset.ReadUntil(ctx, l.Dataset, l.settings.Stop)()
	if err := l.verifier.Repeats(ctx, looked.All()); err != nil {
		return err
	}
	if !l.record.exists() {
		return nil
	}
	if err := l.record.registry.Settle(ctx, l.ID); err != nil {
		return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	return nil
}

// complete makes sure that the registry has the load as complete, because other runs may have
// loaded parts of it, and checks the table once more.
func (l *Load) complete(ctx context.Context, res loader.Result) error {
	if !l.record.exists() {
		return l.check.atEnd(ctx, l.record.spec.Identity, res)
	}
	rec, err := l.recorded(ctx)
	if err != nil {
		return unconfirmed(err)
	}
	if rec.State != registry.Done {
		return fmt.Errorf("%w: the registry has %d of %d %s", loader.ErrUnconfirmed, rec.Done.Len(), rec.Positions, l.Dataset.Facts().Unit)
	}
	var now spec // other runs may have changed the specification
	if err := json.Unmarshal(rec.Spec, &now); err != nil {
		return unconfirmed(err)
	}
	l.check.seen = l.ending.identity
	if err := l.followReplacement(now, rec.Spec); err != nil {
		return err
	}
	err = l.check.atEnd(ctx, now.Identity, res)
	if err != nil && l.record.spec.unreplaced() && ctx.Err() == nil && l.replacedByOther(ctx) {
		err = l.check.atEnd(ctx, l.record.spec.Identity, res)
	}
	return err
}

// recorded returns the record of the load. The ending's record is read before or after the
// ranges to settle, and another run may settle them in between: a record that is not done is
// read again.
func (l *Load) recorded(ctx context.Context) (registry.Load, error) {
	if l.ending.load != nil && l.ending.load.State == registry.Done {
		return *l.ending.load, nil
	}
	return l.record.registry.Get(ctx, l.ID)
}

// unconfirmed wraps the error of a read of the registry in ErrUnconfirmed: it is unknown
// whether the load is complete. The error of a load cancelled in the meantime stays unchanged.
func unconfirmed(err error) error {
	if failure.Of(err) == failure.Refused {
		return err
	}
	return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
}

// remember records the run's final size of chunks and number of workers, if they differ from
// the initial ones.
func (l *Load) remember(ctx context.Context, res loader.Result) error {
	if !l.record.exists() || !l.tunes || res.Chunks == 0 || res.RowsPerChunk == l.Plan.RowsPerChunk && res.Workers == l.Workers.Start {
		return nil
	}
	t := registry.Tuning{
		Target: l.record.spec.target(), Kind: l.Dataset.Facts().Kind, Chunk: res.RowsPerChunk,
		Method: string(l.Method), CommitMode: string(l.CommitMode), Origin: registry.ByRun,
	}
	workers := ""
	if l.Workers.Max > l.Workers.Start {
		t.Workers = res.Workers
		workers = fmt.Sprintf(" and %d workers", res.Workers)
	}
	if err := l.record.registry.SaveTuning(ctx, t); err != nil {
		// The rows are committed. The next load starts from the plan again.
		l.settings.note(server.Reason(err))
		return nil
	}
	l.settings.note(fmt.Sprintf("settled on chunks of %d rows%s; the next load of this table starts with them", res.RowsPerChunk, workers))
	return nil
}

// restoreIndexes creates the load's deferred indexes again.
func (l *Load) restoreIndexes(ctx context.Context, _ loader.Result) error {
	if !l.record.exists() || l.ending.listed && len(l.ending.deferred) == 0 {
		return nil
	}
	return l.record.deferral(l.srv, l.pool).Restore(ctx, l.settings.note)
}

// confirm makes sure that all synchronous standbys have the commits of the load. The last
// release of a lease follows all other commits in the log: if the server waited for it, all are
// confirmed. A run with nothing to load, and a run without a registry, have no such release.
func (l *Load) confirm(ctx context.Context, res loader.Result) error {
	if l.srv.Product != server.PostgreSQL {
		return nil
	}
	if !l.sessions.Unwaited() && res.Chunks > 0 && (l.record.exists() || res.AlreadyCommittedRows == 0) {
		return nil
	}
	err := l.sessions.Confirm(ctx, l.pool, l.settings.attemptTimeout(), l.settings.retryFor())
	if errors.Is(err, server.ErrUnwaited) {
		return fmt.Errorf("%w: the rows are loaded, but %w", loader.ErrUnconfirmed, err)
	}
	return err
}

// Verify compares every row of a complete load with the table. observe, if not nil, gets the
// number of positions compared so far; several goroutines call it at once. The load needs a
// record.
func (l *Load) Verify(ctx context.Context, observe func(int64)) (Report, error) {
	rec, err := l.record.registry.Get(ctx, l.ID)
	if err != nil {
		return Report{}, err
	}
	if err := l.record.spec.Import.Err(); err != nil {
		return Report{}, err
	}
	if rec.State != registry.Done {
		in, err := l.record.registry.In(ctx, l.ID)
		if err != nil {
			return Report{}, err
		}
		return Report{}, fmt.Errorf("%w: load %s has %d of %d %s; resume it with: loader loads resume %s", ErrIncomplete, l.ID, in.Len(), rec.Positions, l.Dataset.Facts().Unit, l.ID)
	}
	return l.verifier.All(ctx, observe)
}

// A Report compares the table's rows with the dataset's.
type Report = verify.Report

// Verify's error wraps ErrIncomplete if the load is not complete yet.
var ErrIncomplete = failure.New(failure.Unconfirmed, "the load is not complete")

// In returns the committed positions of the load. The load needs a record.
func (l *Load) In(ctx context.Context) (chunker.Ranges, error) {
	return l.record.registry.In(ctx, l.ID)
}

// Tolerates reports whether the load sets bad records aside as rejects.
func (l *Load) Tolerates() bool { return l.committer.Tolerates() }

// Rejects returns the number of rejected records of the load.
func (l *Load) Rejects(ctx context.Context) (int64, error) {
	if !l.record.exists() || !l.committer.Tolerates() {
		return 0, nil
	}
	return l.record.registry.CountRejects(ctx, l.ID)
}

// EachReject calls f with each rejected record, in the order of the input. The load needs a
// record.
func (l *Load) EachReject(ctx context.Context, f func(rows.Reject) error) error {
	return l.record.registry.EachReject(ctx, l.ID, f)
}

// Handoff describes, for messages, how the server reaches the rows of a load by IMPORT; empty
// for other loads.
func (l *Load) Handoff() string {
	s := l.record.spec.Import
	if s == nil {
		return ""
	}
	files := "1 file"
	if s.Streams != 1 {
		files = fmt.Sprintf("%d files", s.Streams)
	}
	switch s.Mode {
	case importer.Serve:
		return fmt.Sprintf("served at %s, %s", s.Addr, files)
	case importer.Upload:
		return fmt.Sprintf("uploaded, %s at a time", files)
	}
	return fmt.Sprintf("read from %s", strings.Join(s.Files, ", "))
}

// Keyed reports whether the URLs of a load by IMPORT may hold credentials. They are not recorded:
// a run that resumes the load needs the URLs again.
func (l *Load) Keyed() bool { s := l.record.spec.Import; return s != nil && s.Once }

// Close ends the load's connections.
func (l *Load) Close() {
	if c, ok := l.runner.(interface{ Close() }); ok {
		c.Close()
	}
	server.ClosePool(l.pool)
	l.Dataset.Close()
}
