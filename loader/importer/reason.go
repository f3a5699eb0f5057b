package importer

import (
	"fmt"
	"path"
	"strings"

	"github.com/jackc/pgerrcode"

	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// startError returns the error of a statement that has started no job.
func (r *Runner) startError(g *batch, err error) error {
	if strings.Contains(server.Message(err), "is offline") {
		return errTaken{fmt.Errorf("IMPORT INTO: %w", err)}
	}
	if code := server.Code(err); code != server.Uncategorized && code != pgerrcode.InternalError {
		return fmt.Errorf("IMPORT INTO: %w", err)
	}
	// Refusals by the planner have no SQLSTATE of their own.
	e := r.jobError(Job{Status: Failed, Error: server.Message(err)})
	if u := r.unreadable(g, e); u != nil {
		return u
	}
	return &dataset.TableError{Reason: "IMPORT INTO: " + e.Reason}
}

// jobError returns the error of a failed job, without the files' credentials.
func (r *Runner) jobError(job Job) *JobError {
	e := Failure(job, r.Detail)
	e.Reason = hide(e.Reason, r.Options.Files)
	return e
}

// failure returns the error of a job that has not loaded its rows, with the place of the bad row.
func (r *Runner) failure(g *batch, job Job) error {
	e := r.jobError(job)
	if e.Status == RevertFailed {
		return fmt.Errorf("%w; the server could not undo the job: %s stays offline and needs an administrator", e, r.Table.Display())
	}
	if u := r.unreadable(g, e); u != nil {
		return u
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
	*JobError
}

func (e *PlacedError) Error() string { return e.Place + ": " + e.JobError.Error() }
func (e *PlacedError) Unwrap() error { return e.JobError }

// An UnreadableError says that the server cannot read one of the user's files: the file is
// missing, or its storage cannot be reached or refuses the server. The load can be resumed
// with other URLs.
type UnreadableError struct {
	File string // without credentials
	*JobError
}

// ErrorKind implements failure.Kinded.
func (e *UnreadableError) ErrorKind() failure.Kind { return failure.Data }

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("the database cannot read %s: %v", e.File, e.JobError)
}

func (e *UnreadableError) Unwrap() error { return e.JobError }

// unreadable returns an *UnreadableError if the job failed because of one of the user's files, else
// nil.
func (r *Runner) unreadable(g *batch, e *JobError) *UnreadableError {
	if !e.Unreadable || r.State.Mode != URLs {
		return nil
	}
	file := Redact(g.urls[0])
	if n := len(g.urls); n > 1 {
		file = fmt.Sprintf("one of %d files from %s on", n, file)
	}
	for _, u := range g.urls {
		// The name must be complete: 1.csv is not 11.csv.
		if name := path.Base(Redact(u)); strings.Contains(e.Reason, "/"+name) || strings.Contains(e.Reason, " "+name) {
			file = Redact(u)
			break
		}
	}
	return &UnreadableError{file, e}
}
