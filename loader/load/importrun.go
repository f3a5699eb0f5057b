package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/handoff"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// An importing is one run of a load by IMPORT.
type importing struct {
	*Load
	s     *importSpec
	queue loader.Queue
	space *handoff.Space
	total loader.Result
	// unsure says that the server's count of the rows of a job was lost.
	unsure bool
	// ahead is the group that is uploaded while a job runs.
	ahead chan *group

	telling sync.Mutex // guards what follows
	claims  []loader.Claim
	current *group // at work
	moved   int64  // positions of it that were told to the observer
}

// A group is what one job loads.
type group struct {
	claim loader.Claim
	texts []*handoff.Text
	names []string // of its files
	urls  []string
	there bool  // its files are uploaded
	err   error // why it could not be made ready
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
		if l.csv != nil && r.s.Mode != handoff.URLs {
			q.Fit = l.csv.Fit
		}
		r.queue = q
	} else {
		r.queue = &wholeQueue{left: l.Positions}
	}
	r.space = handoff.NewSpace(l.pool, l.srv.Config.Database(), l.srv.Config.User(), l.handoffID())
	watch, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	go r.live(watch, lost)
	err := r.groups(watch)
	if cause := context.Cause(watch); ctx.Err() == nil && cause != nil {
		err = cause // what was done after it failed for that alone
	}
	r.total.Elapsed = time.Since(start)
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
		r.ahead = nil
		return g, g.err
	}
	told := false
	for {
		g, err := r.claim(ctx)
		if !errors.Is(err, loader.ErrBusy) {
			if err == nil {
				err = r.ready(ctx, g)
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

// ready makes the group's files: texts that are served, or parts that are uploaded.
func (r *importing) ready(ctx context.Context, g *group) error {
	if r.s.Mode == handoff.URLs {
		for _, f := range r.settings.Handoff.Files {
			if !strings.Contains(f, "*") {
				g.urls = append(g.urls, f)
				continue
			}
			for i := range r.s.Streams {
				g.urls = append(g.urls, handoff.Name(f, i, r.s.Streams))
			}
		}
		return nil
	}
	var fit func(chunker.Range) (chunker.Range, error)
	if r.csv != nil {
		fit = r.csv.Fit
	}
	var err error
	if g.texts, err = handoff.Parts(r.source(), r.s.Format, g.claim.Range, r.s.Streams, fit); err != nil {
		return err
	}
	for i, t := range g.texts {
		// The load's id makes the name, and so the job, known to later runs.
		name := fmt.Sprintf("%s-%d-%0*d.csv", r.handoffID(), g.claim.First, len(fmt.Sprint(len(g.texts))), i+1)
		if r.s.Mode == handoff.Serve {
			if r.serving != nil {
				g.urls = append(g.urls, r.serving.Offer(name, t))
			}
		} else {
			name += ".gz"
			g.urls = append(g.urls, r.space.URL(name))
		}
		g.names = append(g.names, name)
	}
	return nil
}

// upload uploads the group's parts, several at a time.
func (r *importing) upload(ctx context.Context, g *group) error {
	if r.s.Mode != handoff.Upload || g.there {
		return nil
	}
	// What an earlier attempt left may be half a file.
	if err := r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) }); err != nil {
		return err
	}
	if err := r.retry(ctx, func() error { return r.space.Prepare(ctx) }); err != nil {
		return err
	}
	ctx, stop := r.untilStop(ctx)
	defer stop()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(max(r.settings.Workers, autoWorkers))
	for i, t := range g.texts {
		group.Go(func() error {
			err := r.space.Upload(gctx, g.names[i], t, r.retry)
			var src *handoff.SourceError
			if errors.As(err, &src) {
				return src.Err
			}
			r.progress(g, func() int64 { return r.uploaded(g) })
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if errors.Is(context.Cause(ctx), loader.ErrStopped) {
			return loader.ErrStopped
		}
		return err
	}
	g.there = true
	return nil
}

// untilStop returns a context that ends when the user wants no more.
func (r *importing) untilStop(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.settings.Stop:
			cancel(loader.ErrStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
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

// passing reports whether err is a database's and may pass.
func passing(err error) bool {
	var job *handoff.JobError
	if errors.As(err, &job) || errors.Is(err, loader.ErrStopped) || errors.Is(err, handoff.ErrNoJob) || errors.Is(err, loader.ErrLost) || errors.Is(err, loader.ErrGaveUp) {
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
	case found && job.Status == handoff.Succeeded:
		r.note(fmt.Sprintf("IMPORT job %d of an earlier run has succeeded", job.ID))
	case found && !job.Status.Over():
		r.note(fmt.Sprintf("IMPORT job %d of an earlier run is %s: this run follows it", job.ID, job.Status))
		if job.Status == handoff.Paused {
			if err := handoff.Control(ctx, r.pool, "RESUME", job.ID); err != nil {
				return err
			}
		}
		job, _, err = r.follow(ctx, g, job.ID, nil)
		var failed *handoff.JobError
		if errors.As(err, &failed) && failed.Status == handoff.Failed && !failed.Data && r.renew(ctx) == nil {
			r.note(fmt.Sprintf("%v; a new job begins", failed))
			g.names, g.urls, g.there = nil, nil, false
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
		if r.s.Mode == handoff.Serve && len(g.urls) == 0 {
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
	if err := r.confirm(ctx, g, rows); err != nil {
		return err
	}
	if err := r.clean(ctx, g); err != nil {
		r.note(err.Error())
	}
	return nil
}

// renew makes the address new at which files are served, where an earlier run's could
// not be had again.
func (r *importing) renew(ctx context.Context) error {
	if r.s.Mode != handoff.Serve || r.serving != nil {
		return nil
	}
	o := r.settings.Handoff
	why, err := r.listen(ctx, r.s, o)
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

// clean removes what was uploaded.
func (r *importing) clean(ctx context.Context, g *group) error {
	if r.s.Mode != handoff.Upload || len(g.names) == 0 {
		return nil
	}
	return r.retry(ctx, func() error { return r.space.Remove(ctx, g.names...) })
}

// earlier finds the job that an earlier run has begun for the group.
func (r *importing) earlier(ctx context.Context, g *group) (handoff.Job, bool, error) {
	if r.s.Tag == "" || r.registry == nil {
		return handoff.Job{}, false, nil
	}
	job, err := handoff.Find(ctx, r.pool, r.s.Tag, r.s.Began)
	switch {
	case errors.Is(err, handoff.ErrNoJob):
		return job, false, nil
	case err != nil:
		return job, false, err
	case r.s.Range != g.claim.Range:
		if done := r.s.Range.End <= g.claim.First; done {
			return job, false, nil // of a group that is in
		}
		return job, false, fmt.Errorf("%w: IMPORT job %d of an earlier run is for %d to %d, and %d to %d are open", loader.ErrUnconfirmed, job.ID, r.s.Range.First, r.s.Range.End, g.claim.First, g.claim.End)
	}
	return job, true, r.registry.SetJob(ctx, r.ID, r.run, job.ID)
}

// tag returns what the description of a job for g holds and no other's does.
func (r *importing) tag(g *group) string {
	if len(g.names) > 0 {
		return g.names[0]
	}
	return handoff.Redact(g.urls[0])
}

// statement returns the IMPORT INTO of a group.
func (r *importing) statement(g *group) handoff.Statement {
	s := handoff.Statement{Table: r.Table.Name, Format: r.s.Format, Files: g.urls}
	for _, c := range r.source().Columns() {
		s.Columns = append(s.Columns, c.Name)
	}
	switch {
	case r.s.Format == handoff.PGCopy:
		// Half a MiB otherwise. Escapes double a record at most.
		s.Options = append(s.Options, handoff.Option{Key: "max_row_size", Value: fmt.Sprintf("%dB", 2*r.spec.CSV.MaxRecord+1024)})
	case r.csv != nil:
		s.Options = r.csvOptions()
	}
	return s
}

// csvOptions are those of files that the server reads as they are.
func (r *importing) csvOptions() []handoff.Option {
	d := r.spec.CSV.Dialect
	list := []handoff.Option{{Key: "nullif", Value: d.Null}}
	if d.Delimiter != ',' {
		list = append(list, handoff.Option{Key: "delimiter", Value: string(rune(d.Delimiter))})
	}
	if r.s.Skip > 0 {
		list = append(list, handoff.Option{Key: "skip", Value: fmt.Sprint(r.s.Skip)})
	}
	return list
}

// begin starts a job for a group and returns the number of rows that the server says it
// has loaded; -1 is unknown.
func (r *importing) begin(ctx context.Context, g *group) (int64, error) {
	select {
	case <-r.settings.Stop:
		return 0, loader.ErrStopped
	default:
	}
	if err := r.upload(ctx, g); err != nil {
		return 0, err
	}
	r.uploadAhead(ctx)
	if err := handoff.Online(ctx, r.pool, r.Table.Name); err != nil {
		return 0, err
	}
	r.s.Tag, r.s.Range = r.tag(g), g.claim.Range
	rows := int64(-1)
	return rows, r.retry(ctx, func() (err error) {
		rows, err = r.send(ctx, g)
		return err
	})
}

// errNoJob: the statement was lost before there was a job. It may be sent again.
type errNoJob struct{ error }

func (e errNoJob) Unwrap() error { return e.error }

// send sends the statement and follows its job.
func (r *importing) send(ctx context.Context, g *group) (int64, error) {
	err := r.retry(ctx, func() (err error) {
		r.s.Began, err = handoff.Now(ctx, r.pool)
		return err
	})
	if err != nil {
		return 0, err
	}
	if err := r.record(ctx); err != nil {
		return 0, err
	}
	st := r.statement(g)
	answers := make(chan answer, 1)
	sending, hangUp := context.WithCancel(ctx)
	defer hangUp()
	go func() {
		var a answer
		a.err = r.withConn(sending, func(conn *pgx.Conn) (err error) {
			a.Answer, err = handoff.Import(sending, conn, st)
			return err
		})
		answers <- a
	}()
	id, a, err := r.find(ctx, answers)
	if err != nil {
		return 0, err
	}
	if a != nil {
		answers <- *a
	}
	_, rows, err := r.follow(ctx, g, id, answers)
	return rows, err
}

// record writes what finds the job again to the registry, before there is a job.
func (r *importing) record(ctx context.Context) error {
	if r.registry == nil {
		return nil
	}
	text, err := json.Marshal(r.spec)
	if err != nil {
		return fmt.Errorf("write the load's specification: %w", err)
	}
	return r.registry.SetSpec(ctx, r.ID, r.run, text)
}

// An answer is what became of the statement.
type answer struct {
	handoff.Answer
	err error
}

// find waits until the job is there, and records it. The answer that came meanwhile, if
// any, is returned too.
func (r *importing) find(ctx context.Context, answers <-chan answer) (int64, *answer, error) {
	var got *answer
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case a := <-answers:
			got = &a
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
		id := int64(0)
		if got != nil && got.err == nil {
			id = got.Job
		} else {
			job, err := handoff.Find(ctx, r.pool, r.s.Tag, r.s.Began)
			if err == nil {
				id = job.ID
			} else if ctx.Err() != nil {
				return 0, nil, ctx.Err()
			} else if !errors.Is(err, handoff.ErrNoJob) && got == nil {
				continue // the statement's answer decides
			}
		}
		switch {
		case id != 0:
			if r.registry != nil {
				if err := r.registry.SetJob(ctx, r.ID, r.run, id); err != nil {
					return 0, nil, err
				}
			}
			return id, got, nil
		case got != nil && passing(got.err):
			// The connection broke. The session may still be there and begin a
			// job: it is ended first, and then what there is is final.
			if err := r.endStatement(ctx); err != nil {
				return 0, nil, err
			}
			err := r.retry(ctx, func() error {
				job, err := handoff.Find(ctx, r.pool, r.s.Tag, r.s.Began)
				id = job.ID
				return err
			})
			if errors.Is(err, handoff.ErrNoJob) {
				err = errNoJob{got.err}
			}
			if err != nil || r.registry == nil {
				return id, nil, err
			}
			return id, nil, r.registry.SetJob(ctx, r.ID, r.run, id)
		case got != nil:
			return 0, nil, startError(got.err)
		}
	}
}

// endStatement ends the session that may still run the IMPORT INTO of this run.
func (r *importing) endStatement(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	for {
		_, err := r.pool.Exec(ctx, `CANCEL QUERIES IF EXISTS SELECT query_id FROM [SHOW CLUSTER QUERIES] WHERE application_name = $1 AND query LIKE 'IMPORT INTO%'`, registry.SessionName(r.ID, r.run))
		if err == nil || ctx.Err() != nil {
			return err
		}
		if c := server.Classify(err); c != server.Retry && c != server.Uncertain {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// startError says why there is no job.
func startError(err error) error {
	text := server.Message(err)
	if server.Code(err) == "XXUUU" || server.Code(err) == "XX000" {
		// Planning has no code of its own for what it refuses.
		return &TableError{"IMPORT INTO: " + handoff.RedactAll(text)}
	}
	return fmt.Errorf("IMPORT INTO: %w", err)
}

func (r *importing) patience() time.Duration {
	if r.settings.RetryFor > 0 {
		return r.settings.RetryFor
	}
	return registry.DefaultRetryFor
}

// follow waits for the end of a job. The answer to its statement, where there is one,
// says how many rows it has loaded; -1 is unknown. Stop cancels the job and waits until
// its rows are gone.
func (r *importing) follow(ctx context.Context, g *group, id int64, answers <-chan answer) (handoff.Job, int64, error) {
	watch, over := context.WithCancel(ctx)
	defer over()
	wake := make(chan struct{})
	canceled := make(chan error, 1) // why this run cancelled the job
	go func() {
		var failed <-chan struct{}
		if r.serving != nil {
			failed = r.serving.Failed()
		}
		var why error
		select {
		case <-r.settings.Stop:
			why = loader.ErrStopped
			r.note(fmt.Sprintf("the server is asked to cancel job %d; waiting until its rows are gone and the table is online", id))
		case <-failed:
			why = r.serving.Fault()
		case <-watch.Done():
			return
		}
		canceled <- why
		if err := handoff.Control(watch, r.pool, "CANCEL", id); err != nil && watch.Err() == nil {
			r.note(server.Reason(err))
		}
		close(wake)
	}()
	rows := int64(-1)
	job, err := r.await(watch, g, id, wake, answers, &rows)
	if err != nil {
		return job, rows, err
	}
	var why error
	select {
	case why = <-canceled:
	default:
	}
	if job.Status == handoff.Succeeded {
		return job, rows, nil
	}
	failure := r.failure(g, job)
	if job.Status != handoff.RevertFailed {
		waiting, cancel := context.WithTimeout(ctx, r.patience())
		defer cancel()
		if err := handoff.Online(waiting, r.pool, r.Table.Name); err != nil {
			return job, rows, fmt.Errorf("%w; %w", failure, err)
		}
	}
	if why != nil {
		return job, rows, fmt.Errorf("%w: job %d is %s, none of its rows is in, and %s is online", why, id, job.Status, r.Table.Display())
	}
	return job, rows, fmt.Errorf("%w; none of its rows is in, and %s is online", failure, r.Table.Display())
}

// await follows the job until it is over, or its statement has said so.
func (r *importing) await(ctx context.Context, g *group, id int64, wake <-chan struct{}, answers <-chan answer, rows *int64) (handoff.Job, error) {
	following, enough := context.WithCancel(ctx)
	defer enough()
	type end struct {
		handoff.Job
		err error
	}
	over := make(chan end, 1)
	go func() {
		paused := false
		job, err := handoff.Follow(following, r.pool, id, r.patience(), wake, func(j handoff.Job) {
			if j.Status == handoff.Paused && !paused {
				r.note(fmt.Sprintf("job %d is paused; loader loads resume %s resumes it", id, r.ID))
			}
			paused = j.Status == handoff.Paused
			r.progress(g, func() int64 { return r.served(g, j) })
		})
		over <- end{job, err}
	}()
	for {
		select {
		case a := <-answers:
			if a.err == nil && a.Job == id {
				*rows = a.Rows
				enough()
				<-over
				return handoff.Job{ID: id, Status: handoff.Succeeded, Fraction: 1}, nil
			}
			answers = nil // SHOW JOB decides
		case e := <-over:
			if e.err == nil && e.Status == handoff.Succeeded && answers != nil {
				select {
				case a := <-answers:
					if a.err == nil {
						*rows = a.Rows
					}
				case <-time.After(time.Second):
				}
			}
			return e.Job, e.err
		}
	}
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

// failure says why a job has not loaded its rows, and where the row at fault is.
func (r *importing) failure(g *group, job handoff.Job) error {
	e := handoff.Failure(job, r.settings.Detail)
	if e.Status == handoff.RevertFailed {
		return fmt.Errorf("%w; the server could not undo it: %s stays offline, and needs an administrator", e, r.Table.Display())
	}
	for i, t := range g.texts {
		if e.Row > 0 && strings.HasSuffix(e.File, g.names[i]) {
			if at, ok := t.Place(e.Row); ok {
				return &PlacedError{at.String(), e}
			}
		}
	}
	return e
}

// A PlacedError is a job's failure at a record of a file.
type PlacedError struct {
	Place string // file:line
	*handoff.JobError
}

func (e *PlacedError) Error() string { return e.Place + ": " + e.JobError.Error() }
func (e *PlacedError) Unwrap() error { return e.JobError }

// served returns how far a job is, in positions of the group.
func (r *importing) served(g *group, j handoff.Job) int64 {
	if r.s.Mode == handoff.Serve && r.serving != nil {
		return r.uploaded(g)
	}
	n := int64(j.Fraction * float64(g.claim.Len()))
	if r.s.Mode == handoff.Upload {
		return g.claim.Len()/2 + n/2
	}
	return n
}

// uploaded returns how much of the group's texts was made.
func (r *importing) uploaded(g *group) int64 {
	var n int64
	for _, t := range g.texts {
		n += t.Position() - t.Range.First
	}
	if r.s.Mode == handoff.Upload {
		n /= 2 // the rest is for reading it
	}
	return n
}

// progress tells the observer how far the group is.
func (r *importing) progress(g *group, at func() int64) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if g != r.current {
		return
	}
	// The last of it is told when the server has confirmed it.
	n := min(at(), g.claim.Len()*99/100) - r.moved
	if n > 0 && r.settings.Observe != nil {
		r.moved += n
		r.settings.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: n, Rows: n}})
	}
}

// uploadAhead begins with the next group while a job reads this one.
func (r *importing) uploadAhead(ctx context.Context) {
	if r.s.Mode != handoff.Upload || r.s.Group >= r.Positions {
		return
	}
	r.ahead = make(chan *group, 1)
	go func() {
		g, err := r.claim(ctx)
		if err == nil {
			if g.err = r.ready(ctx, g); g.err == nil {
				g.err = r.upload(ctx, g)
			}
		} else if errors.Is(err, loader.ErrBusy) {
			g.err = io.EOF // the job at work is all that is left
		}
		r.ahead <- g
	}()
}

// confirm compares the rows of the job with those of the group and records the group.
func (r *importing) confirm(ctx context.Context, g *group, rows int64) error {
	want := int64(-1)
	if r.What != CSV {
		want = g.claim.Len()
	} else if r.s.Mode == handoff.URLs {
		var err error
		if want, err = r.countRecords(); err != nil {
			return err
		}
	} else if len(g.texts) > 0 {
		want = 0
		for _, t := range g.texts {
			n, ok := t.Rows()
			if !ok {
				want = -1
				break
			}
			want += n
		}
	}
	if rows >= 0 && want >= 0 && rows != want {
		return fmt.Errorf("%w: the server has read %d rows of %d", loader.ErrUnconfirmed, rows, want)
	}
	g.claim.Done.Add(g.claim.Range)
	if err := r.release(ctx, g); err != nil {
		return err
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	if left := g.claim.Len() - r.moved; r.settings.Observe != nil {
		r.settings.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: left, Rows: left}})
	}
	r.moved = 0
	r.total.Chunks++
	r.total.Positions += g.claim.Len()
	r.total.Rows += max(rows, want, 0)
	r.unsure = r.unsure || rows < 0
	return nil
}

// countRecords counts the records of the files of which the server has read copies.
func (r *importing) countRecords() (int64, error) {
	spans := r.csv.Cut(chunker.Range{End: r.Positions})
	var n int64
	for {
		span, err := spans.Next(1 << 20)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += span.Rows
		r.csv.Done(span)
	}
}

// finish brings the table back into its former state: constraints validated, statistics
// gathered. Where the server's count of rows was lost, they are counted.
func (r *importing) finish(ctx context.Context) error {
	if err := handoff.Online(ctx, r.pool, r.Table.Name); err != nil {
		return err
	}
	if r.Table.OID == 0 { // the job of an earlier run had it offline
		t, err := server.Describe(ctx, r.pool, r.srv.Info, r.Table.Name)
		if err != nil {
			return err
		}
		r.Table = t
	}
	if r.unsure && r.What != CSV && r.s.WasEmpty {
		n, err := server.Count(ctx, r.srv, r.Table.Name)
		if err != nil {
			return fmt.Errorf("%w: the rows could not be counted: %w", loader.ErrUnconfirmed, err)
		}
		if n < r.Rows {
			return fmt.Errorf("%w: %s has %d rows, and %d were handed off", loader.ErrUnconfirmed, r.Table.Display(), n, r.Rows)
		}
	}
	if len(r.s.Valid) > 0 {
		r.note(fmt.Sprintf("validating %s", strings.Join(r.s.Valid, ", ")))
		if err := r.retry(ctx, func() error { return handoff.Validate(ctx, r.pool, r.Table.Name, r.s.Valid) }); err != nil {
			return err
		}
	}
	ctx, stop := r.untilStop(ctx)
	defer stop()
	if err := handoff.Analyze(ctx, r.pool, r.Table.Name); err != nil {
		r.note("statistics could not be gathered, and will be by the server in time: " + server.Reason(err))
	}
	return nil
}

// watchTexts tells how far texts are, until done is closed.
func watchTexts(texts []*handoff.Text, done <-chan struct{}, observe func(int64)) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		var n int64
		for _, t := range texts {
			n += t.Position() - t.Range.First
		}
		observe(n)
	}
}
