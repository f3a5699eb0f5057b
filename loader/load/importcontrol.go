package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bulkload/loader/commit"
	"bulkload/loader/importer"
	"bulkload/loader/importer/userfile"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// jobOf returns the job that a recorded load by IMPORT waits for, if there is one.
func jobOf(ctx context.Context, pool server.Querier, rec registry.Load) (job importer.Job, s *importer.State, err error) {
	var spec spec
	if err := json.Unmarshal(rec.Spec, &spec); err != nil {
		return job, nil, fmt.Errorf("load %s: its specification is of another version of loader: %w", rec.ID, err)
	}
	if spec.Import == nil || spec.Import.Tag == "" {
		return job, spec.Import, importer.ErrNoJob
	}
	job, err = importer.Find(ctx, pool, spec.Import.Tag, spec.Import.Began)
	if err == nil && job.Status.Over() {
		err = importer.ErrNoJob
	}
	return job, spec.Import, err
}

// sessions opens a pool for a few statements, with the settings that a load began with.
func sessions(ctx context.Context, srv *server.Server, settings map[string]string) (server.TimeoutPool, error) {
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loader", Max: 2, Settings: settings})
	return server.TimeoutPool{Pool: pool, Timeout: commit.DefaultChunkTimeout}, err
}

// PauseJob pauses the IMPORT job of a load and waits until it is. A *TableError says that
// there is none at work.
func PauseJob(ctx context.Context, srv *server.Server, rec registry.Load) (int64, error) {
	pool, err := sessions(ctx, srv, nil)
	if err != nil {
		return 0, err
	}
	defer server.ClosePool(pool.Pool)
	job, _, err := jobOf(ctx, pool, rec)
	if errors.Is(err, importer.ErrNoJob) {
		return 0, &TableError{Reason: fmt.Sprintf("load %s has no IMPORT job at work; only those can be paused", rec.ID)}
	}
	if err != nil {
		return 0, err
	}
	if err := importer.Control(ctx, pool, "PAUSE", job.ID); err != nil {
		return 0, err
	}
	following, paused := context.WithCancel(ctx)
	defer paused()
	last, err := importer.Follow(following, pool, job.ID, 0, time.Minute, nil, func(j importer.Job) {
		if j.Status == importer.Paused {
			paused()
		}
	})
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case following.Err() == nil && err != nil:
		return 0, err
	case err == nil && last.Status.Over():
		return 0, &TableError{Reason: fmt.Sprintf("job %d of load %s has %s before it could be paused", job.ID, rec.ID, last.Status)}
	}
	return job.ID, nil
}

// CancelJob cancels the IMPORT job of a load, if it has one, and waits until its rows are
// gone and the table is online. What it has uploaded is removed.
func CancelJob(ctx context.Context, srv *server.Server, rec registry.Load, note func(string)) error {
	if rec.State == registry.Done {
		return nil
	}
	pool, err := sessions(ctx, srv, nil)
	if err != nil {
		return err
	}
	defer server.ClosePool(pool.Pool)
	job, s, err := jobOf(ctx, pool, rec)
	switch {
	case s == nil && errors.Is(err, importer.ErrNoJob):
		return nil
	case err == nil:
		note(fmt.Sprintf("the server is asked to cancel job %d; waiting until its rows are gone and the table is online", job.ID))
		if err := importer.Control(ctx, pool, "CANCEL", job.ID); err != nil {
			return err
		}
		wake := make(chan struct{})
		close(wake)
		last, err := importer.Follow(ctx, pool, job.ID, 0, time.Minute, wake, func(importer.Job) {})
		if err != nil {
			return err
		}
		if last.Status == importer.RevertFailed {
			return importer.Failure(last, false)
		}
	case !errors.Is(err, importer.ErrNoJob):
		return err
	}
	if s.Mode != importer.Upload {
		return nil
	}
	return userfile.New(pool, srv.Config.Database(), srv.Config.User(), rec.ID).Remove(ctx)
}
