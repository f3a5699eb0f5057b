package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/server"
)

// prefix returns the beginning of the names of a batch's files.
func (r *Runner) prefix(batch chunker.Range) string {
	return fmt.Sprintf("%s-%d-%d-", r.ID, batch.First, batch.End)
}

// tag returns a text that only descriptions of jobs for g contain.
func (r *Runner) tag(g *batch) string {
	if len(g.names) > 0 {
		return g.names[0]
	}
	return jobMarker(g.urls[0])
}

// statement returns the IMPORT INTO of a batch.
func (r *Runner) statement(g *batch) Statement {
	s := Statement{Table: r.Table.Name, Format: r.State.Format, Files: g.urls}
	for _, c := range r.Input.Source.Columns() {
		s.Columns = append(s.Columns, c.Name)
	}
	switch {
	case r.State.Format == virtual.PGCopy:
		// The default is half a MiB. Escapes at most double a record.
		s.Options = append(s.Options, Option{Key: "max_row_size", Value: fmt.Sprintf("%dB", 2*r.Input.MaxRecordBytes+1024)})
	default:
		s.Options = r.Input.CSV
	}
	return s
}

// begin starts a job for a batch. It returns the number of loaded rows by the server's count;
// -1 is unknown.
func (r *Runner) begin(ctx context.Context, g *batch) (int64, error) {
	select {
	case <-r.Stop:
		return 0, loader.ErrStopped
	default:
	}
	if err := r.upload(ctx, g); err != nil {
		return 0, err
	}
	r.uploadAhead(ctx)
	if err := r.online(ctx); err != nil {
		return 0, err
	}
	r.State.Tag, r.State.Range = r.tag(g), g.claim.Range
	policy := server.RetryPolicy{For: r.RetryFor}
	for waits := policy.Waits(); ; {
		rows, err := r.send(ctx, g)
		var lost errNoJob
		var taken errTaken
		switch {
		case errors.As(err, &taken), beside(err): // another run has started its job meanwhile
			if err := r.online(ctx); err != nil {
				return 0, err
			}
			waits = policy.Waits()
		case !errors.As(err, &lost):
			return rows, err
		}
		if err := waits.Wait(ctx, err); err != nil {
			return rows, err
		}
	}
}

// errNoJob: the statement was lost and started no job. It may be sent again.
type errNoJob struct{ error }

func (e errNoJob) Unwrap() error { return e.error }

// beside reports whether a job failed because another run's job was running.
func beside(err error) bool {
	var failed *JobError
	return errors.As(err, &failed) && strings.Contains(failed.Reason, "another operation is currently operating on the table")
}

// errTaken: another run's job keeps the table offline. The statement started no job.
type errTaken struct{ error }

func (e errTaken) Unwrap() error { return e.error }

// send sends the statement and follows its job.
func (r *Runner) send(ctx context.Context, g *batch) (int64, error) {
	if err := r.startTime(ctx); err != nil {
		return 0, err
	}
	if err := r.record(ctx); err != nil {
		return 0, err
	}
	st := r.statement(g)
	answers := make(chan answer, 1)
	sending, hangUp := context.WithCancel(ctx)
	defer hangUp()
	r.session = ""
	go func() {
		var a answer
		a.err = server.WithDedicatedConn(sending, r.Pool, func(conn *pgx.Conn) (err error) {
			r.session = server.SessionID(conn)
			a.Answer, err = Import(sending, conn, st)
			return err
		})
		answers <- a
	}()
	id, a, err := r.find(ctx, g, answers, hangUp)
	if err != nil {
		return 0, err
	}
	if a != nil {
		answers <- *a
	}
	_, rows, err := r.follow(ctx, g, id, answers)
	return rows, err
}

// startTime records by what the next statement's job will be found: it starts after Began, and is
// none of the Known jobs of the same files, which have failed.
func (r *Runner) startTime(ctx context.Context) error {
	r.State.Known = nil
	for {
		var job Job
		err := r.retry(ctx, func() (err error) {
			if r.State.Began, err = Now(ctx, r.db); err == nil {
				job, err = Find(ctx, r.db, r.State.Tag, r.State.Began, r.State.Known...)
			}
			return err
		})
		if errors.Is(err, ErrNoJob) {
			return nil
		}
		if err != nil {
			return err
		}
		r.State.Known = append(r.State.Known, job.ID)
	}
}

// record records how to find the job, before it is started.
func (r *Runner) record(ctx context.Context) error {
	if r.Record == nil {
		return nil
	}
	return r.Record.Save(ctx, r.State)
}

// An answer is the server's reply to the statement, or its error.
type answer struct {
	Answer
	err error
}

// find waits until the server lists the job, and records it. It also returns the statement's
// answer, if that came first. After AttemptTimeout without a job or an answer, the statement was
// lost on its way, and hangUp ends it.
func (r *Runner) find(ctx context.Context, g *batch, answers <-chan answer, hangUp func()) (int64, *answer, error) {
	var got *answer
	lost := time.AfterFunc(r.AttemptTimeout, hangUp)
	defer lost.Stop()
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, time.Second) {
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
			job, err := Find(ctx, r.db, r.State.Tag, r.State.Began, r.State.Known...)
			if err == nil {
				id = job.ID
			} else if ctx.Err() != nil {
				return 0, nil, ctx.Err()
			} else if !errors.Is(err, ErrNoJob) && got == nil {
				continue // the statement's answer decides
			}
		}
		switch {
		case id != 0:
			if r.Record != nil {
				if err := r.Record.SetJob(ctx, id); err != nil {
					return 0, nil, err
				}
			}
			return id, got, nil
		case got != nil && mayPass(got.err):
			// The connection broke. Its session may still start a job, so it is ended before
			// the jobs are listed.
			if err := r.endStatement(ctx); err != nil {
				return 0, nil, err
			}
			err := r.retry(ctx, func() error {
				job, err := Find(ctx, r.db, r.State.Tag, r.State.Began, r.State.Known...)
				id = job.ID
				return err
			})
			if errors.Is(err, ErrNoJob) {
				err = errNoJob{got.err}
			}
			if err != nil || r.Record == nil {
				return id, nil, err
			}
			return id, nil, r.Record.SetJob(ctx, id)
		case got != nil:
			return 0, nil, r.startError(g, got.err)
		}
	}
}

// endStatement ends the session of this run's IMPORT INTO, and waits until the server does not
// list the session any more. The session could otherwise still receive a delayed statement, and
// begin a second job.
func (r *Runner) endStatement(ctx context.Context) error {
	if r.session == "" {
		return nil // nothing was sent
	}
	return r.retry(ctx, func() error {
		// The server finds the session by its id whatever the list says.
		if _, err := r.db.Exec(ctx, `CANCEL SESSION IF EXISTS $1`, r.session); err != nil {
			return err
		}
		// CockroachDB 26.1 lists a session with an id of zeros for some milliseconds, when it is new
		// and between two statements, or behind a COPY until it ends, and the session that asks, too.
		var there bool
		err := r.db.QueryRow(ctx, `SELECT count(*) > 0 FROM [SHOW CLUSTER SESSIONS] WHERE session_id = $1
			OR session_id !~ '[1-9a-f]' AND application_name = current_setting('application_name') AND active_queries NOT LIKE '%[SHOW CLUSTER SESSIONS]%'`,
			r.session).Scan(&there)
		if err == nil && there {
			err = errSession
		}
		return err
	})
}

// errSession: a session is ending. It passes.
var errSession = errors.New("the session of IMPORT INTO is still there")
