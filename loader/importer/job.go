package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// A Job is an IMPORT job as SHOW JOB lists it.
type Job struct {
	ID       int64
	Status   Status
	Fraction float64 // progress, by the files' bytes or, if the server does not know them, by files
	Error    string  // why it failed, in the server's words
	// Took is the time since the job started, until its end.
	Took time.Duration
}

// A Status is the state of a job.
type Status string

// Statuses of a job (CockroachDB, pkg/jobs). Jobs with other statuses have not ended.
const (
	Running   Status = "running"
	Paused    Status = "paused"
	Succeeded Status = "succeeded"
	// A job that is CancelRequested or Reverting becomes Canceled or Failed.
	CancelRequested Status = "cancel-requested"
	Reverting       Status = "reverting"
	Failed          Status = "failed"   // and reverted
	Canceled        Status = "canceled" // and reverted
	// RevertFailed: the table stays offline until an administrator repairs it.
	RevertFailed Status = "revert-failed"
)

// Over reports whether the job has ended, and will change nothing.
func (s Status) Over() bool {
	return s == Succeeded || s == Failed || s == Canceled || s == RevertFailed
}

// ErrNoJob: the server does not list the job.
var ErrNoJob = errors.New("the server has no such job")

// showJob reads a job. The error wraps ErrNoJob if there is none.
func showJob(ctx context.Context, db server.Querier, id int64) (Job, error) {
	j := Job{ID: id}
	var failure *string
	var fraction *float64
	var seconds float64
	// 26.1 gives created, started and modified, which are UTC, as times in the session's zone, but
	// not finished. So the difference is that of modified, which is the end's time, too.
	err := db.QueryRow(ctx, fmt.Sprintf(`SELECT status, fraction_completed::FLOAT8, error, 
		extract(epoch FROM modified)::FLOAT8 - COALESCE(extract(epoch FROM started), extract(epoch FROM created))::FLOAT8
		FROM [SHOW JOB %d]`, id)).
		Scan(&j.Status, &fraction, &failure, &seconds)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return j, fmt.Errorf("%w: %d", ErrNoJob, id)
	case err != nil:
		return j, fmt.Errorf("ask for job %d: %w", id, err)
	}
	j.Took = time.Duration(seconds * float64(time.Second))
	if fraction != nil {
		j.Fraction = *fraction
	}
	if failure != nil {
		j.Error = *failure
	}
	return j, nil
}

// findWithin is how long before its statement a job may seem to have been created: 26.1 lists whole
// seconds, and gives times of UTC as times in the session's zone.
const findWithin = 24 * time.Hour

// Find returns the newest IMPORT job whose description contains text, that was created at about
// began or later by the server's clock, and that is none of the known ones. The error wraps ErrNoJob
// if there is none.
func Find(ctx context.Context, db server.Querier, text string, began time.Time, known ...int64) (Job, error) {
	var id int64
	// SHOW JOBS shortens descriptions in the middle on 26.1; given ids it does not.
	err := db.QueryRow(ctx, `SELECT job_id FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS]
			WHERE job_type = 'IMPORT' AND extract(epoch FROM created)::FLOAT8 >= $2::FLOAT8)]
		WHERE position($1 IN description) > 0 AND job_id <> ALL($3::INT8[]) ORDER BY created DESC, job_id DESC LIMIT 1`,
		text, float64(began.Add(-findWithin).Unix()), append([]int64{}, known...)).Scan(&id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Job{}, ErrNoJob
	case err != nil:
		return Job{}, fmt.Errorf("look for the job: %w", err)
	}
	return showJob(ctx, db, id)
}

// Now returns the server's time, for Find.
func Now(ctx context.Context, db server.Querier) (time.Time, error) {
	var t int64
	err := db.QueryRow(ctx, "SELECT "+server.Micros("clock_timestamp()")).Scan(&t)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the time: %w", err)
	}
	return time.UnixMicro(t), nil
}

// Control asks the server for an action on a job: PAUSE, RESUME or CANCEL. The server acts later.
func Control(ctx context.Context, pool server.TimeoutPool, action string, id int64) error {
	if _, err := pool.Exec(ctx, fmt.Sprintf("%s JOB %d", action, id)); err != nil {
		return fmt.Errorf("%s job %d: %w", strings.ToLower(action), id, err)
	}
	return nil
}

// Bounds of the interval of polls of a job: a fiftieth of its time so far.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = time.Second
)

// followJob polls a job until it is over, and calls observe with each answer. minWait is the
// minimum interval, since each poll costs the server some milliseconds; zero is automatic.
// followJob polls an unreachable server for at most patience. When wake is closed, it polls at once and
// often. The error wraps ErrNoJob, or is ctx's.
func followJob(ctx context.Context, db server.Querier, id int64, minWait, patience time.Duration, wake <-chan struct{}, observe func(Job)) (Job, error) {
	began, answered := time.Now(), time.Now()
	for {
		j, err := showJob(ctx, db, id)
		switch {
		case err == nil:
			answered = time.Now()
			observe(j)
			if j.Status.Over() {
				return j, nil
			}
		case ctx.Err() != nil:
			return j, ctx.Err()
		case errors.Is(err, ErrNoJob):
			return j, err
		default:
			if !server.MayPass(err) || time.Since(answered) > patience {
				return j, err
			}
		}
		wait := max(min(max(time.Since(began)/50, firstPoll), lastPoll), minWait)
		select {
		case <-wake:
			wake, began, minWait = nil, time.Now(), 0
			continue
		case <-time.After(wait):
		case <-ctx.Done():
			return j, ctx.Err()
		}
	}
}

// An Answer is the server's reply to an IMPORT INTO whose job has succeeded.
type Answer struct{ Job, Rows int64 }

// Import sends the statement and waits for its end. The server runs the job also when the
// connection breaks: only an error with a SQLSTATE says how the job ended.
//
// Note: tried WITH DETACHED, in the transaction that records the job. On 21.1 such a job
// starts only when a node polls for new jobs, every 30 s, which is longer than many loads, and the
// number of rows is not reported. The statement starts its job at once; Find finds it from another
// session.
func Import(ctx context.Context, conn *pgx.Conn, s Statement) (Answer, error) {
	if _, err := conn.Exec(ctx, "SET statement_timeout = 0"); err != nil {
		return Answer{}, err
	}
	var a Answer
	found, err := conn.Query(ctx, s.SQL(), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return a, err
	}
	defer found.Close()
	for found.Next() {
		if err := a.scan(found); err != nil {
			return a, err
		}
	}
	return a, found.Err()
}

// scan reads job_id and rows of the answer, by name: the other columns, and which of them are NULL,
// differ by version.
func (a *Answer) scan(found pgx.Rows) error {
	fields := found.FieldDescriptions()
	dest := make([]any, len(fields)) // nil skips a column
	for i, f := range fields {
		switch f.Name {
		case "job_id":
			dest[i] = &a.Job
		case "rows":
			dest[i] = &a.Rows
		}
	}
	if !slices.Contains(dest, any(&a.Job)) || !slices.Contains(dest, any(&a.Rows)) {
		return fmt.Errorf("the server's answer to IMPORT INTO has %d columns, without job_id or rows", len(fields))
	}
	return found.Scan(dest...)
}

// describeTries is how often Describe describes a table if that fails for another reason than jobs
// of another run, which may be their doing too.
const describeTries = 4

// Describe is server.Describe for a table that jobs of other runs may take offline, also between
// two of its queries. Then it waits by online, and describes the table again, for retryFor at most.
// The error is that of server.Describe; where the table is offline, it may be that of online.
func Describe(ctx context.Context, db server.Querier, info server.Info, table pgx.Identifier, retryFor time.Duration, online func(context.Context) error) (*server.Table, error) {
	end := time.Now().Add(retryFor)
	for tries := 1; ; tries++ {
		t, err := server.Describe(ctx, db, info, table)
		if err == nil {
			return t, nil
		}
		offline := wentOffline(err)
		if tries >= describeTries && !offline || time.Now().After(end) {
			return nil, err
		}
		if over := online(ctx); over != nil {
			if offline {
				return nil, over
			}
			return nil, err
		}
	}
}

// wentOffline reports whether server.Describe failed because a job took the table offline between
// two of its queries. The catalog does not list the keys of such a table.
func wentOffline(err error) bool {
	return server.Code(err) == pgerrcode.ObjectNotInPrerequisiteState || errors.Is(err, pgx.ErrNoRows)
}

// Online waits until a table can be read. The table of an ended job is soon online. The error
// says that the table is still offline.
func Online(ctx context.Context, db server.Querier, table pgx.Identifier) error {
	for {
		var one int
		err := db.QueryRow(ctx, "SELECT 1 FROM "+table.Sanitize()+" LIMIT 1").Scan(&one)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if !strings.Contains(server.Message(err), "offline") {
			if !server.MayPass(err) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("table %s is not online: %s", server.Display(table), server.Reason(err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
