package importer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bulkload/loader"
	"bulkload/loader/server"
)

// failsWithin is how long a job may take to fail once one of its files is no longer served.
const failsWithin = 3 * time.Second

// follow waits for the end of a job. It returns the number of loaded rows by the answer to the
// statement; -1 is unknown. Stop cancels the job, and follow then waits until its rows are
// gone.
func (r *Runner) follow(ctx context.Context, g *batch, id int64, answers <-chan answer) (Job, int64, error) {
	watch, over := context.WithCancel(ctx)
	defer over()
	wake := make(chan struct{})
	canceled := make(chan error, 1) // why this run cancelled the job
	go func() {
		var failed <-chan struct{}
		if r.Server != nil {
			failed = r.Server.Failed()
		}
		var why error
		select {
		case <-r.Stop:
			why = loader.ErrStopped
		case <-failed:
			why = r.Server.Fault()
		case <-watch.Done():
			return
		}
		if errors.Is(why, loader.ErrStopped) { // also if the file server failed because of the stop
			why = loader.ErrStopped
			r.Note(fmt.Sprintf("cancelling job %d; waiting until the server has removed its rows and the table is online", id))
			if r.Server != nil {
				r.Server.Refuse()
			}
		}
		canceled <- why
		close(wake)
		if why != loader.ErrStopped {
			// The job fails by itself: its files are no longer served.
			select {
			case <-watch.Done():
				return
			case <-time.After(failsWithin):
			}
		}
		if err := Control(watch, r.db, "CANCEL", id); err != nil && watch.Err() == nil {
			if j, again := showJob(watch, r.db, id); again != nil || !j.Status.Over() {
				r.Note(server.Reason(err))
			}
		}
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
	if job.Status == Succeeded {
		return job, rows, nil
	}
	failure := r.failure(g, job)
	if job.Status != RevertFailed {
		waiting, cancel := context.WithTimeout(ctx, r.RetryFor)
		defer cancel()
		if err := Online(waiting, r.db, r.Table.Name); err != nil {
			return job, rows, fmt.Errorf("%w; %w", failure, err)
		}
	}
	left := r.left(ctx, g)
	if why != nil {
		return job, rows, fmt.Errorf("%w: job %d is over, %s", why, id, left)
	}
	return job, rows, fmt.Errorf("%w; %s", failure, left)
}

// left says whether a failed job has left rows in the table. The server promises to leave none.
// 21.1.5 was once seen to leave rows of a job that failed because another node died.
func (r *Runner) left(ctx context.Context, g *batch) string {
	if r.State.WasEmpty && g.claim.Len() == r.Input.Positions {
		var some bool
		err := r.db.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+r.Table.Name.Sanitize()+" LIMIT 1)").Scan(&some)
		if err == nil && some {
			return fmt.Sprintf("%s was empty before the job and now has rows that the server left there: empty it before you resume", r.Table.Display())
		}
	}
	return fmt.Sprintf("none of its rows was loaded, and %s is online", r.Table.Display())
}

// await follows the job until it ends or the statement is answered.
func (r *Runner) await(ctx context.Context, g *batch, id int64, wake <-chan struct{}, answers <-chan answer, rows *int64) (Job, error) {
	following, enough := context.WithCancel(ctx)
	var watching sync.WaitGroup // nothing is told behind the end
	defer watching.Wait()
	defer enough()
	type end struct {
		Job
		err error
	}
	over := make(chan end, 1)
	minWait := time.Duration(0)
	if answers != nil {
		minWait = time.Second // the answer will tell the end; polls are only for the progress
	}
	slow := stillness{runner: r, job: id, since: time.Now()}
	watching.Go(func() { slow.watch(following) })
	go func() {
		paused := false
		job, err := followJob(following, r.db, id, minWait, r.RetryFor, wake, func(j Job) {
			if j.Status == Paused && !paused {
				r.Note(fmt.Sprintf("job %d is paused; resume it with: loader loads resume %s", id, r.ID))
			}
			paused = j.Status == Paused
			slow.polled(j, r.served(g, j))
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
				return Job{ID: id, Status: Succeeded, Fraction: 1}, nil
			}
			answers = nil // SHOW JOB decides
		case e := <-over:
			if e.err == nil && e.Status == Succeeded && answers != nil {
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
