package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/importer"
	"bulkload/loader/importer/userfile"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// An importing is one run of a load by IMPORT.
type importing struct {
	*Load
	s     *importSpec
	queue loader.Queue
	space *userfile.Store
	db    server.Bounded // for what is soon answered
	total loader.Result
	// unsure says that the server's count of the rows of a job was lost.
	unsure bool
	// before is the time that jobs took before this run followed them.
	before time.Duration
	// session is the server's id of the one that the statement was sent by last.
	session string
	// ahead is the group that is uploaded while a job runs; noAhead ends that.
	ahead   chan *group
	noAhead context.CancelFunc

	telling sync.Mutex // guards what follows
	claims  []loader.Claim
	current *group // at work
	moved   int64  // positions of it that were told to the observer
}

// A group is what one job loads.
type group struct {
	claim loader.Claim
	texts []*virtual.File
	names []string // of its files
	urls  []string
	there bool // its files are uploaded
	// earlier: the job is an earlier run's, which may have read any part of them.
	earlier bool
	err     error // why it could not be made ready
}

// beat is the time between two signs of life of a run that waits for a job.
const beat = 5 * time.Second

// runImport loads by IMPORT. Each job loads all of its rows or none.
func (l *Load) runImport(ctx context.Context) (loader.Result, error) {
	start := time.Now()
	r := &importing{Load: l, s: l.spec.Import}
	if l.registry != nil {
		q := l.registry.Queue(l.ID, l.run)
		q.Block, q.Most, q.Least = 0, r.s.Group, r.s.Group
		if l.csv != nil && r.s.Mode != importer.URLs {
			q.Fit = l.csv.Fit
		}
		r.queue = q
	} else {
		r.queue = &wholeQueue{left: l.Positions}
	}
	r.db = server.Bounded{Pool: l.pool, Within: r.within()}
	r.space = userfile.New(r.db, l.srv.Config.Database(), l.srv.Config.User(), l.handoffID())
	watch, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var beside sync.WaitGroup
	beside.Go(func() { r.live(watch, lost) })
	err := r.groups(watch)
	if cause := context.Cause(watch); ctx.Err() == nil && cause != nil {
		err = cause // what was done after it failed for that alone
	}
	lost(nil)
	beside.Wait()
	r.total.Elapsed = time.Since(start) + r.before
	if err == nil {
		err = r.finish(ctx)
	}
	return r.total, err
}

// handoffID names the load's files; a load without a record has no id of its own.
func (l *Load) handoffID() string {
	if l.ID != "" {
		return l.ID
	}
	return l.run
}

// wholeQueue is the queue of a load without a record.
type wholeQueue struct{ left int64 }

func (q *wholeQueue) Claim(context.Context, int64) (loader.Claim, error) {
	n := q.left
	if n == 0 {
		return loader.Claim{}, io.EOF
	}
	q.left = 0
	return loader.Claim{Range: chunker.Range{End: n}}, nil
}
func (q *wholeQueue) Checkpoint(context.Context, []loader.Claim) error { return nil }
func (q *wholeQueue) Release(context.Context, loader.Claim) error      { return nil }

// groups loads one group after the other.
func (r *importing) groups(ctx context.Context) error {
	for {
		g, err := r.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.load(ctx, g)
		}
		if err != nil {
			return errors.Join(err, r.drop(ctx))
		}
	}
}

// drop lets go of the group that was made ready ahead.
func (r *importing) drop(ctx context.Context) error {
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

// claim claims a group.
func (r *importing) claim(ctx context.Context) (*group, error) {
	c, err := r.queue.Claim(ctx, r.s.Group)
	if err != nil {
		return &group{err: err}, err
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.claims = append(r.claims, loader.Claim{Range: c.Range})
	return &group{claim: c}, nil
}

// release gives a group back, with what is in of it.
func (r *importing) release(ctx context.Context, g *group) error {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.claims = slices.DeleteFunc(r.claims, func(c loader.Claim) bool { return c.Range == g.claim.Range })
	return r.queue.Release(ctx, g.claim)
}

// next claims a group and makes it ready to be read.
func (r *importing) next(ctx context.Context) (*group, error) {
	if r.ahead != nil {
		g := <-r.ahead
		r.noAhead()
		r.ahead = nil
		if g.err != nil && g.claim.Len() > 0 {
			return g, r.give(ctx, g, g.err)
		}
		return g, g.err
	}
	told := false
	for {
		g, err := r.claim(ctx)
		if !errors.Is(err, loader.ErrBusy) {
			if err == nil {
				if err = r.ready(ctx, g); err != nil {
					err = r.give(ctx, g, err)
				}
			}
			return g, err
		}
		if !told {
			told = true
			r.note("another run of this load waits for its job; this one waits for that")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.settings.Stop:
			return nil, loader.ErrStopped
		case <-time.After(time.Second):
		}
	}
}

// untilStop returns a context that ends when the user wants no more.
func (r *importing) untilStop(ctx context.Context) (context.Context, func()) {
	return untilStop(ctx, r.settings.Stop)
}

// retry calls fn, which may be done twice, until it succeeds, fails for good, or patience
// is over.
func (r *importing) retry(ctx context.Context, fn func() error) error {
	end := time.Now().Add(r.patience())
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := fn()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !passing(err) {
			return err
		}
		if time.Now().Add(wait).After(end) {
			return fmt.Errorf("%w after %s: %w", loader.ErrGaveUp, r.patience(), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// passing reports whether err, of a database call, may pass.
func passing(err error) bool {
	if errors.Is(err, importer.ErrNoJob) || errors.Is(err, loader.ErrLost) {
		return false
	}
	c := server.Classify(err)
	return c == server.Retry || c == server.Uncertain
}

// load has one group loaded, by a job of an earlier run or by a new one.
func (r *importing) load(ctx context.Context, g *group) error {
	r.telling.Lock()
	r.current, r.moved = g, 0
	r.telling.Unlock()
	job, found, err := r.earlier(ctx, g)
	if err != nil {
		return err
	}
	rows := int64(-1)
	switch {
	case found && job.Status == importer.Succeeded:
		r.note(fmt.Sprintf("IMPORT job %d of an earlier run has succeeded", job.ID))
		r.before += job.Took
	case found && !job.Status.Over():
		r.note(fmt.Sprintf("IMPORT job %d of an earlier run is %s: this run follows it", job.ID, job.Status))
		if job.Status == importer.Paused {
			if err := importer.Control(ctx, r.db, "RESUME", job.ID); err != nil {
				return err
			}
		}
		// Who resumes a load that was stopped wants its rows, not the end of its stopping.
		ending := job.Status == importer.CancelRequested || job.Status == importer.Reverting
		began := time.Now()
		r.telling.Lock()
		g.earlier = true
		r.telling.Unlock()
		job, _, err = r.follow(ctx, g, job.ID, nil)
		if err == nil {
			r.before += max(job.Took-time.Since(began), 0)
		}
		var failed *importer.JobError
		again := errors.As(err, &failed) && (failed.Status == importer.Failed && !failed.Data || failed.Status == importer.Canceled && ending)
		if again && r.renew(ctx) == nil {
			r.note(fmt.Sprintf("%v; a new job begins", failed))
			g.names, g.urls, g.there = nil, nil, false
			r.telling.Lock()
			g.earlier = false
			r.telling.Unlock()
			if err := r.ready(ctx, g); err != nil {
				return r.give(ctx, g, err)
			}
			found = false
		} else if err != nil {
			return r.give(ctx, g, err)
		}
	default:
		found = false
		if err := r.renew(ctx); err != nil {
			return r.give(ctx, g, err)
		}
		if r.s.Mode == importer.Serve && len(g.urls) == 0 {
			g.names = nil
			if err := r.ready(ctx, g); err != nil {
				return r.give(ctx, g, err)
			}
		}
	}
	if !found {
		if rows, err = r.begin(ctx, g); err != nil {
			return r.give(ctx, g, err)
		}
	}
	// The job has confirmed its rows, all or none.
	err = r.confirm(ctx, g, rows)
	if err := r.clean(ctx, g); err != nil {
		r.note(err.Error())
	}
	return err
}

// renew makes the address new at which files are served, where an earlier run's could
// not be had again.
func (r *importing) renew(ctx context.Context) error {
	if r.s.Mode != importer.Serve || r.serving != nil {
		return nil
	}
	o := r.settings.Handoff
	var why string
	err := server.Again(ctx, func() (err error) {
		why, err = r.listen(ctx, r.s, o)
		return err
	})
	if err == nil && why != "" {
		err = &TableError{why}
	}
	return err
}

// give gives the group back after err: none of it is in.
func (r *importing) give(ctx context.Context, g *group, err error) error {
	if ctx.Err() != nil {
		return err // the next run finds the job
	}
	return errors.Join(err, r.clean(ctx, g), r.release(ctx, g))
}

func (r *importing) patience() time.Duration {
	if r.settings.RetryFor > 0 {
		return r.settings.RetryFor
	}
	return registry.DefaultRetryFor
}

// within is how long an answer may take to what is soon done.
func (r *importing) within() time.Duration {
	if r.settings.ChunkTimeout > 0 {
		return r.settings.ChunkTimeout
	}
	return commit.DefaultChunkTimeout
}

// live shows that the run lives, for as long as ctx lasts, and ends it when what it holds
// belongs to another.
func (r *importing) live(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.telling.Lock() // not while a claim is given back
		err := r.queue.Checkpoint(ctx, r.claims)
		r.telling.Unlock()
		if errors.Is(err, loader.ErrLost) {
			lost(err)
			return
		}
	}
}
