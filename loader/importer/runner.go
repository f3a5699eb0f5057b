package importer

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/userfile"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A Runner loads the rows of one load by IMPORT INTO, one batch after the other. Fill in the
// exported fields, then call Run. A Runner is used once. After any error but that of bad data
// the load can go on with another Runner.
type Runner struct {
	// ID names the load's files and jobs.
	ID    string
	DB    *server.Server
	Pool  *pgxpool.Pool
	Table *server.Table // with OID zero where an earlier run's job has it offline
	Input Input
	State *State
	// Queue hands out the batches; nil: all rows are one.
	Queue loader.Queue
	// Record keeps the State, so that later runs find the job; nil: there is no record.
	Record  Record
	Options Options
	// Server serves the rows of mode Serve. If it is nil, Run starts one when it needs one. Close
	// closes it.
	Server *serve.Server
	// Workers is the number of files that are uploaded at once.
	Workers int
	// AttemptTimeout bounds one short statement, RetryFor all attempts at it.
	AttemptTimeout, RetryFor time.Duration
	// Stop cancels the job when it is closed. Nil never stops.
	Stop <-chan struct{}
	// Note, when not nil, receives messages for the user, also from several goroutines at once;
	// Observe, when not nil, receives the progress.
	Note    func(string)
	Observe func(loader.Event)
	// Detail lets an error quote the row it concerns.
	Detail bool

	space *userfile.Store
	db    server.TimeoutPool // for short statements
	total loader.Result
	// unsure says that the server's count of a job's rows was lost.
	unsure bool
	// before is how long jobs of earlier runs took before this run followed them.
	before time.Duration
	// session is the server's id of the session of the last IMPORT INTO.
	session string
	// ahead gives the next batch, which is uploaded while a job runs. noAhead stops its upload.
	ahead   chan *batch
	noAhead context.CancelFunc

	mu       sync.Mutex // guards the fields below; held during writes to the queue
	claims   []loader.Lease
	current  *batch // whose job runs
	reported int64  // positions of current that were given to Observe
}

// An Input is what IMPORT reads.
type Input struct {
	Source    loader.Source
	Positions int64
	Rows      int64 // an estimate for files; zero is unknown
	// Exact says that each position is a row.
	Exact bool
	// Fit moves the end of a range to a place between two rows; nil: every place is one.
	Fit func(chunker.Range) (chunker.Range, error)
	// Count counts the rows of a range; nil where Exact.
	Count func(context.Context, chunker.Range) (int64, error)
	// Present counts the rows of a range that the table has; nil: their keys are unknown.
	Present func(context.Context, chunker.Range) (int64, error)
	// Repeated describes the first record with the key of an earlier record; empty if there is
	// none. IMPORT loads two records of the same content as one row. Nil if Exact is set or the
	// server makes the keys.
	Repeated func(ctx context.Context) (string, error)
	// MaxRecordBytes is the size of the longest record; zero for generated rows.
	MaxRecordBytes int
	// CSV holds the options for files that the server reads unchanged.
	CSV []Option
}

// A Record keeps the State of a load, and its job.
type Record interface {
	// Save keeps the state. loader.ErrLost: the run has lost its leases.
	Save(ctx context.Context, s *State) error
	// SetJob keeps the id of the running job.
	SetJob(ctx context.Context, id int64) error
}

// A batch is the positions that one job loads, and their files.
type batch struct {
	claim loader.Lease
	texts []*virtual.File
	names []string // of its files
	urls  []string
	// stored says that its files are uploaded.
	stored bool
	// earlier says that an earlier run's job loads it, and may have read any part of its files.
	earlier bool
	err     error // of the attempt to make it ready
}

// Run loads everything that the queue has. Each job loads all of its rows or none.
func (r *Runner) Run(ctx context.Context) (loader.Result, error) {
	if r.State.Differs != "" {
		return loader.Result{}, r.State.Err()
	}
	start := time.Now()
	r.setDefaults()
	var heard atomic.Int64 // when the server answered last
	r.db = server.TimeoutPool{Pool: r.Pool, Timeout: r.AttemptTimeout, Heard: func() { heard.Store(time.Now().UnixNano()) }}
	r.space = userfile.New(r.db, r.DB.Config.Database(), r.DB.Config.User(), r.ID)
	watch, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var beside sync.WaitGroup
	beside.Go(func() { r.sendHeartbeats(watch, lost) })
	beside.Go(func() { r.endIfSilent(watch, lost, &heard) })
	err := r.batches(watch)
	if cause := context.Cause(watch); ctx.Err() == nil && cause != nil {
		err = cause // later errors are only its consequence
	}
	lost(nil)
	beside.Wait()
	r.total.Elapsed = time.Since(start) + r.before
	if err == nil {
		err = r.finish(ctx)
	}
	return r.total, err
}

func (r *Runner) setDefaults() {
	if r.Queue == nil {
		r.Queue = &wholeQueue{left: r.Input.Positions}
	}
	if r.Note == nil {
		r.Note = func(string) {}
	}
	if r.AttemptTimeout <= 0 {
		r.AttemptTimeout = commit.DefaultChunkTimeout
	}
	if r.RetryFor <= 0 {
		r.RetryFor = registry.DefaultRetryFor
	}
}

// Close closes Server. It is called after Run, or instead of it.
func (r *Runner) Close() {
	if r.Server != nil {
		r.Server.Close()
	}
}

// wholeQueue is the queue of a load without a record.
type wholeQueue struct{ left int64 }

func (q *wholeQueue) Claim(context.Context, int64) (loader.Lease, error) {
	n := q.left
	if n == 0 {
		return loader.Lease{}, io.EOF
	}
	q.left = 0
	return loader.Lease{Range: chunker.Range{End: n}}, nil
}
func (q *wholeQueue) Checkpoint(context.Context, []loader.Lease) error { return nil }
func (q *wholeQueue) Release(context.Context, loader.Lease) error      { return nil }

// batches loads one batch after the other.
func (r *Runner) batches(ctx context.Context) error {
	for {
		g, err := r.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.load(ctx, g)
		}
		if err != nil {
			return errors.Join(err, r.abandonAhead(ctx))
		}
	}
}

// abandonAhead releases the batch that was uploaded ahead.
func (r *Runner) abandonAhead(ctx context.Context) error {
	if r.ahead == nil {
		return nil
	}
	r.noAhead()
	g := <-r.ahead
	if g.claim.Len() == 0 || ctx.Err() != nil {
		return nil
	}
	return errors.Join(r.clean(ctx, g), r.release(ctx, g))
}

// claim leases the next batch.
func (r *Runner) claim(ctx context.Context) (*batch, error) {
	c, err := r.Queue.Claim(ctx, r.State.Batch)
	if err != nil {
		return &batch{err: err}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims = append(r.claims, loader.Lease{Range: c.Range})
	return &batch{claim: c}, nil
}

// release releases the lease of a batch, with its committed positions.
func (r *Runner) release(ctx context.Context, g *batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims = slices.DeleteFunc(r.claims, func(c loader.Lease) bool { return c.Range == g.claim.Range })
	return r.Queue.Release(ctx, g.claim)
}

// next leases a batch and makes it ready to be read.
func (r *Runner) next(ctx context.Context) (*batch, error) {
	if r.ahead != nil {
		g := <-r.ahead
		r.noAhead()
		r.ahead = nil
		if g.err != nil && g.claim.Len() > 0 {
			return g, r.abandon(ctx, g, g.err)
		}
		if !errors.Is(g.err, loader.ErrBusy) {
			return g, g.err
		}
		// Another run was working when the batch was asked for. The load is not complete before
		// that run ends.
	}
	told := false
	for {
		g, err := r.claim(ctx)
		if !errors.Is(err, loader.ErrBusy) {
			if err == nil {
				if err = r.ready(ctx, g); err != nil {
					err = r.abandon(ctx, g, err)
				}
			}
			return g, err
		}
		if !told {
			told = true
			r.Note("another run of this load waits for its IMPORT job; waiting for that run")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.Stop:
			return nil, loader.ErrStopped
		case <-time.After(time.Second):
		}
	}
}

// retry calls an idempotent fn until it succeeds, fails permanently, or RetryFor is over.
func (r *Runner) retry(ctx context.Context, fn func() error) error {
	return server.RetryPolicy{For: r.RetryFor, Judge: mayPass}.Do(ctx, fn)
}

// mayPass reports whether another attempt at a database call may succeed.
func mayPass(err error) bool {
	return !errors.Is(err, ErrNoJob) && !errors.Is(err, loader.ErrLost) && server.MayPass(err)
}

// load loads one batch, by a job of an earlier run or by a new one.
func (r *Runner) load(ctx context.Context, g *batch) error {
	r.mu.Lock()
	r.current, r.reported = g, 0
	r.mu.Unlock()
	loaded, err := r.byEarlier(ctx, g)
	if err != nil {
		return err
	}
	rows := int64(-1)
	if !loaded {
		if rows, err = r.begin(ctx, g); err != nil {
			return r.abandon(ctx, g, err)
		}
	}
	err = r.confirm(ctx, g, rows)
	if err := r.clean(ctx, g); err != nil {
		r.Note(err.Error())
	}
	return err
}

// abandon removes the batch's files and releases its lease after err. None of its rows is
// committed.
func (r *Runner) abandon(ctx context.Context, g *batch, err error) error {
	if ctx.Err() != nil {
		return err // the next run finds the job
	}
	return errors.Join(err, r.clean(ctx, g), r.release(ctx, g))
}
