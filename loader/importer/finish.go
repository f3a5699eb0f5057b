package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
)

// confirm compares the rows that the batch's job has loaded with those of the batch, and records
// the batch. rows is the server's count; -1 is unknown.
func (r *Runner) confirm(ctx context.Context, g *batch, rows int64) error {
	want, err := r.expected(ctx, g)
	if err != nil {
		return err
	}
	if rows, err = r.loaded(ctx, g, rows, want); err != nil {
		return err
	}
	if rows >= 0 && want >= 0 && rows != want {
		return r.differs(ctx, fmt.Sprintf("the server has read %d rows of %d", rows, want))
	}
	g.claim.Done.Add(g.claim.Range)
	if err := r.release(ctx, g); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := g.claim.Len() - r.reported; r.Observe != nil {
		r.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: left, Rows: left}})
	}
	r.reported = 0
	r.total.Chunks++
	r.total.Positions += g.claim.Len()
	r.total.Rows += max(rows, want, 0)
	r.unsure = r.unsure || rows < 0
	return nil
}

// expected returns the number of rows of a batch. Files that this run made or served have counted
// them; else the input is read again, because the server read copies, or an earlier run's files.
func (r *Runner) expected(ctx context.Context, g *batch) (int64, error) {
	if r.Input.Exact {
		return g.claim.Len(), nil
	}
	if r.State.Mode == URLs || len(g.texts) == 0 {
		return r.Input.Count(ctx, g.claim.Range)
	}
	var n int64
	for _, t := range g.texts {
		rows, ok := t.Rows()
		if !ok {
			return r.Input.Count(ctx, g.claim.Range)
		}
		n += rows
	}
	return n, nil
}

// loaded returns the number of rows that the batch's job has loaded. rows is the server's count,
// and want the batch's number. Where the server's count is unknown or differs, loaded asks the
// table; -1 remains where it cannot tell.
func (r *Runner) loaded(ctx context.Context, g *batch, rows, want int64) (int64, error) {
	// A server that starts a job again may count rows twice. A count that is too high therefore
	// says as little as a lost one.
	over := rows > want
	if over {
		rows = -1
	}
	// 1. Count the batch's keys in the table: the count was lost, or is that of a part.
	if rows < want && r.Input.Present != nil {
		if err := r.online(ctx); err != nil {
			return 0, err
		}
		err := r.retry(ctx, func() (err error) {
			rows, err = r.Input.Present(ctx, g.claim.Range)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	// 2. Without a count, the job has loaded every record, but two records of one key as one row.
	if rows < 0 && r.Input.Repeated != nil {
		if err := r.online(ctx); err != nil {
			return 0, err
		}
		repeated, err := r.Input.Repeated(ctx)
		if err != nil {
			return 0, err
		}
		if repeated != "" {
			return 0, r.differs(ctx, repeated)
		}
		if !r.State.WasEmpty || g.claim.Len() != r.Input.Positions {
			rows = want
		}
	}
	// 3. Count the table's rows, if it was empty and this run has loaded every earlier batch. The
	// count was lost, or is only what the last node has read of a job that moved there. Others may
	// have added rows. This comes before the batch is recorded as committed.
	if rows < want && r.State.WasEmpty && g.claim.First == r.total.Positions {
		if err := r.online(ctx); err != nil {
			return 0, err
		}
		n, err := r.count(ctx)
		if err != nil {
			return 0, err
		}
		rows = n - r.total.Rows
		if !over { // with over, two counts say that there are more
			rows = min(rows, want)
		}
	}
	return rows, nil
}

// differs returns the error of a job that loaded other rows than the load's. It records the error:
// a later run has no reply of the server that would show it.
func (r *Runner) differs(ctx context.Context, why string) error {
	if r.Input.Exact { // a later run can count the rows
		return fmt.Errorf("%w: %s", loader.ErrUnconfirmed, why)
	}
	if r.Input.Repeated != nil && strings.HasPrefix(why, "the server") {
		switch repeated, err := r.Input.Repeated(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && repeated != "":
			why += "; " + repeated
		}
	}
	r.State.Differs = fmt.Sprintf("%s; the rows that IMPORT read are in %s: run loader loads forget %s, delete the rows, and load again; with --via insert a repeated record is an error, with --max-errors a reject, and with --on-conflict skip it is skipped",
		why, r.Table.Display(), r.ID)
	if r.Record != nil {
		if err := r.Record.Save(ctx, r.State); err != nil {
			return errors.Join(r.State.Err(), err)
		}
	}
	return r.State.Err()
}

// count counts the rows of the table.
func (r *Runner) count(ctx context.Context) (n int64, err error) {
	err = r.retry(ctx, func() error {
		n, err = server.Count(ctx, r.DB, r.Table.Name)
		return err
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: the rows could not be counted: %w", loader.ErrUnconfirmed, err)
	}
	return n, err
}

// online waits until the table can be read: another job may keep it offline. It tells the user of
// a longer wait, and gives up after RetryFor.
func (r *Runner) online(ctx context.Context) error {
	waiting, stop := loader.WithStop(ctx, r.Stop)
	defer stop()
	waiting, cancel := context.WithTimeout(waiting, r.RetryFor)
	defer cancel()
	told := time.AfterFunc(2*time.Second, func() { r.Note("waiting until " + r.Table.Display() + " is online") })
	defer told.Stop()
	err := Online(waiting, r.db, r.Table.Name)
	switch cause := context.Cause(waiting); {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(cause, loader.ErrStopped):
		return cause
	case cause != nil:
		return fmt.Errorf("%w after %s: %w", loader.ErrGaveUp, r.RetryFor, err)
	}
	return err
}

// finish counts the rows if the server's count of a job was lost, validates the constraints again,
// and gathers statistics.
func (r *Runner) finish(ctx context.Context) error {
	if err := r.online(ctx); err != nil {
		return err
	}
	if r.Table.OID == 0 { // the job of an earlier run kept it offline
		t, err := Describe(ctx, r.db, r.DB.Info, r.Table.Name, r.RetryFor, r.online)
		if err != nil {
			return err
		}
		r.Table = t
	}
	if r.unsure && r.Input.Exact && r.State.WasEmpty { // several jobs
		n, err := r.count(ctx)
		if err != nil {
			return err
		}
		if n < r.Input.Rows {
			return fmt.Errorf("%w: %s has %d rows, but %d were given to IMPORT", loader.ErrUnconfirmed, r.Table.Display(), n, r.Input.Rows)
		}
	}
	if len(r.State.Valid) > 0 {
		r.Note(fmt.Sprintf("validating %s", strings.Join(r.State.Valid, ", ")))
		if err := r.retry(ctx, func() error { return validate(ctx, r.Pool, r.Table.Name, r.State.Valid) }); err != nil {
			return err
		}
	}
	ctx, stop := loader.WithStop(ctx, r.Stop)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, r.RetryFor)
	defer cancel()
	if err := analyze(ctx, r.Pool, r.Table.Name); err != nil {
		r.Note("statistics could not be gathered now; the server will gather them later: " + server.Reason(err))
	}
	return nil
}
