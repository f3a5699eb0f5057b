package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer/userfile"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A Kept is the part of a load's record that describes its IMPORT. Import is nil for a load in
// chunks.
type Kept struct {
	Import *State `json:"import,omitempty"`
}

// jobOf returns the job that a recorded load by IMPORT waits for, if there is one.
func jobOf(ctx context.Context, pool server.Querier, rec registry.Load) (job Job, s *State, err error) {
	var kept Kept
	if err := json.Unmarshal(rec.Spec, &kept); err != nil {
		return job, nil, fmt.Errorf("load %s: its specification is of another version of loader: %w", rec.ID, err)
	}
	s = kept.Import
	if s == nil || s.Tag == "" {
		return job, s, ErrNoJob
	}
	job, err = Find(ctx, pool, s.Tag, s.Began, s.Known...)
	if err == nil && job.Status.Over() {
		err = ErrNoJob
	}
	return job, s, err
}

// sessions opens a pool for a few short statements.
func sessions(ctx context.Context, srv *server.Server) (server.TimeoutPool, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader", Max: 2})
	return server.TimeoutPool{Pool: pool, Timeout: commit.DefaultChunkTimeout}, err
}

// PauseJob pauses the IMPORT job of a load and waits until it is paused. A *dataset.TableError says
// that none is running.
func PauseJob(ctx context.Context, srv *server.Server, rec registry.Load) (int64, error) {
	pool, err := sessions(ctx, srv)
	if err != nil {
		return 0, err
	}
	defer server.ClosePool(pool.Pool)
	job, _, err := jobOf(ctx, pool, rec)
	if errors.Is(err, ErrNoJob) {
		return 0, &dataset.TableError{Reason: fmt.Sprintf("load %s has no running IMPORT job; only IMPORT jobs can be paused", rec.ID)}
	}
	if err != nil {
		return 0, err
	}
	if err := Control(ctx, pool, "PAUSE", job.ID); err != nil {
		return 0, err
	}
	following, paused := context.WithCancel(ctx)
	defer paused()
	last, err := followJob(following, pool, job.ID, 0, time.Minute, nil, func(j Job) {
		if j.Status == Paused {
			paused()
		}
	})
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case following.Err() == nil && err != nil:
		return 0, err
	case err == nil && last.Status.Over():
		return 0, &dataset.TableError{Reason: fmt.Sprintf("job %d of load %s had %s before it could be paused", job.ID, rec.ID, last.Status)}
	}
	return job.ID, nil
}

// CancelJob cancels the IMPORT job of a load, if it has one, and waits until its rows are
// gone and the table is online. It removes uploaded files.
func CancelJob(ctx context.Context, srv *server.Server, rec registry.Load, note func(string)) error {
	if rec.State == registry.Done {
		return nil
	}
	pool, err := sessions(ctx, srv)
	if err != nil {
		return err
	}
	defer server.ClosePool(pool.Pool)
	job, s, err := jobOf(ctx, pool, rec)
	switch {
	case s == nil && errors.Is(err, ErrNoJob):
		return nil
	case err == nil:
		note(fmt.Sprintf("cancelling job %d; waiting until the server has removed its rows and the table is online", job.ID))
		if err := Control(ctx, pool, "CANCEL", job.ID); err != nil {
			return err
		}
		wake := make(chan struct{})
		close(wake)
		last, err := followJob(ctx, pool, job.ID, 0, time.Minute, wake, func(Job) {})
		if err != nil {
			return err
		}
		if last.Status == RevertFailed {
			return Failure(last, false)
		}
	case !errors.Is(err, ErrNoJob):
		return err
	}
	if s.Mode != Upload {
		return nil
	}
	return userfile.New(pool, srv.Config.Database(), srv.Config.User(), rec.ID).Remove(ctx)
}
