package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// byEarlier reports whether a job that an earlier run started has loaded the batch. It waits for a
// running job. If loaded is false, the batch is ready for a new job.
func (r *Runner) byEarlier(ctx context.Context, g *batch) (loaded bool, err error) {
	job, found, err := r.earlier(ctx, g)
	switch {
	case err != nil:
		return false, err
	case found && job.Status == Succeeded:
		r.Note(fmt.Sprintf("IMPORT job %d of an earlier run has succeeded", job.ID))
		r.before += job.Took
		return true, nil
	case found && !job.Status.Over():
		return r.followEarlier(ctx, g, job)
	}
	if err := r.renew(ctx); err != nil {
		return false, r.abandon(ctx, g, err)
	}
	if r.State.Mode == Serve && len(g.urls) == 0 {
		g.names = nil
		if err := r.ready(ctx, g); err != nil {
			return false, r.abandon(ctx, g, err)
		}
	}
	return false, nil
}

// followEarlier is byEarlier for a job that has not ended.
func (r *Runner) followEarlier(ctx context.Context, g *batch, job Job) (loaded bool, err error) {
	r.Note(fmt.Sprintf("IMPORT job %d of an earlier run is %s; waiting for it", job.ID, job.Status))
	if job.Status == Paused {
		if err := Control(ctx, r.db, "RESUME", job.ID); err != nil {
			return false, err
		}
	}
	// The job of a stopped run may still be removing its rows. Then a new job follows.
	ending := job.Status == CancelRequested || job.Status == Reverting
	began := time.Now()
	r.mu.Lock()
	g.earlier = true
	r.mu.Unlock()
	job, _, err = r.follow(ctx, g, job.ID, nil)
	if err == nil {
		r.before += max(job.Took-time.Since(began), 0)
		return true, nil
	}
	var failed *JobError
	again := errors.As(err, &failed) && (failed.Status == Failed && !failed.Data || failed.Status == Canceled && ending)
	if !again || r.renew(ctx) != nil {
		return false, r.abandon(ctx, g, err)
	}
	r.Note(fmt.Sprintf("%v; starting a new job", failed))
	g.names, g.urls, g.stored = nil, nil, false
	r.mu.Lock()
	g.earlier = false
	r.mu.Unlock()
	if err := r.ready(ctx, g); err != nil {
		return false, r.abandon(ctx, g, err)
	}
	return false, nil
}

// earlier finds the job that an earlier run started for the batch.
func (r *Runner) earlier(ctx context.Context, g *batch) (Job, bool, error) {
	if r.State.Tag == "" || r.Record == nil {
		return Job{}, false, nil
	}
	tag, began, known := r.State.Tag, r.State.Began, r.State.Known
	other := r.State.Range != g.claim.Range
	if other && strings.HasPrefix(tag, r.prefix(r.State.Range)) && len(g.names) > 0 {
		// The record knows only the job that was started last. If several runs share the load,
		// that may be another run's job. The job of this batch is found by its files' names.
		tag, began, known, other = r.tag(g), time.Time{}, nil, false
	}
	var job Job
	err := r.retry(ctx, func() (err error) {
		job, err = Find(ctx, r.db, tag, began, known...)
		return err
	})
	switch {
	case errors.Is(err, ErrNoJob):
		return job, false, nil
	case err != nil:
		return job, false, err
	case other: // an earlier version started the job; its names do not identify the batch
		if r.State.Range.End <= g.claim.First {
			return job, false, nil // its batch is committed
		}
		return job, false, fmt.Errorf("%w: IMPORT job %d of an earlier run loads rows %d to %d, but rows %d to %d are missing", loader.ErrUnconfirmed, job.ID, r.State.Range.First, r.State.Range.End, g.claim.First, g.claim.End)
	}
	return job, true, r.Record.SetJob(ctx, job.ID)
}

// renew starts a file server if this run needs one: the earlier run's address was not free.
func (r *Runner) renew(ctx context.Context) error {
	if r.State.Mode != Serve || r.Server != nil {
		return nil
	}
	var why string
	err := server.RetryOpening(ctx, func() (err error) {
		r.Server, why, err = Listen(ctx, r.Pool, r.State, r.Options, r.Note)
		return err
	})
	if err == nil && why != "" {
		err = &dataset.TableError{Reason: why}
	}
	return err
}
