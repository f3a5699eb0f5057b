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

// confirm compares the rows of the job with those of the batch and records the batch.
func (r *Runner) confirm(ctx context.Context, g *batch, rows int64) error {
	want := int64(-1)
	if r.Input.Exact {
		want = g.claim.Len()
	} else if r.State.Mode != URLs && len(g.texts) > 0 {
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
	if want < 0 {
		// The server reads copies, or files that an earlier run made.
		var err error
		if want, err = r.Input.Count(ctx, g.claim.Range); err != nil {
			return err
		}
	}
	// A server that begins a job again may count what it read before once more: a reply of
	// too many rows says no more than one that was lost.
	over := rows > want
	if over {
		rows = -1
	}
	if rows < want && r.Input.There != nil {
		// The reply was lost, or counts a part. The keys tell.
		if err := r.online(ctx); err != nil {
			return err
		}
		err := r.retry(ctx, func() (err error) {
			rows, err = r.Input.There(ctx, g.claim.Range)
			return err
		})
		if err != nil {
			return err
		}
	}
	if rows < 0 && r.Input.Repeated != nil {
		// The reply was lost. The job has loaded all records, but two records of one key
		// as one row.
		if err := r.online(ctx); err != nil {
			return err
		}
		repeated, err := r.Input.Repeated(ctx)
		if err != nil {
			return err
		}
		if repeated != "" {
			return r.differs(ctx, repeated)
		}
		if !r.State.WasEmpty || g.claim.Len() != r.Input.Positions {
			rows = want
		}
	}
	if rows < want && r.State.WasEmpty && g.claim.First == r.total.Positions {
		// The reply was lost, or counts what the last node has read of a job that went over
		// to it. The table has the rows of this job and of those before it, all of this run,
		// and any that others have added since. To be known before the batch counts as done.
		if err := r.online(ctx); err != nil {
			return err
		}
		n, err := r.count(ctx)
		if err != nil {
			return err
		}
		rows = n - r.total.Rows
		if !over { // else two say that there are more
			rows = min(rows, want)
		}
	}
	if rows >= 0 && want >= 0 && rows != want {
		return r.differs(ctx, fmt.Sprintf("the server has read %d rows of %d", rows, want))
	}
	g.claim.Done.Add(g.claim.Range)
	if err := r.release(ctx, g); err != nil {
		return err
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	if left := g.claim.Len() - r.moved; r.Observe != nil {
		r.Observe(loader.Event{Span: chunker.Span{First: g.claim.First, Count: left, Rows: left}})
	}
	r.moved = 0
	r.total.Chunks++
	r.total.Positions += g.claim.Len()
	r.total.Rows += max(rows, want, 0)
	r.unsure = r.unsure || rows < 0
	return nil
}

// differs returns the error of a job that loaded other rows than the load's, and records it:
// later runs have no reply of the server to tell them.
func (r *Runner) differs(ctx context.Context, why string) error {
	if r.Input.Exact { // what is there can be counted
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

// online waits until the table can be read, for another job may have it offline. It notes a
// longer wait, and gives up after RetryFor.
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

// finish validates the constraints again, and has statistics gathered where the server does not
// do it by itself. It counts the rows where
// the server's own count was lost.
func (r *Runner) finish(ctx context.Context) error {
	if err := r.online(ctx); err != nil {
		return err
	}
	if r.Table.OID == 0 { // the job of an earlier run had it offline
		t, err := server.Describe(ctx, r.db, r.DB.Info, r.Table.Name)
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
		if err := r.retry(ctx, func() error { return Validate(ctx, r.Pool, r.Table.Name, r.State.Valid) }); err != nil {
			return err
		}
	}
	ctx, stop := loader.WithStop(ctx, r.Stop)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, r.RetryFor)
	defer cancel()
	if err := Analyze(ctx, r.Pool, r.Table.Name); err != nil {
		r.Note("statistics could not be gathered now; the server will gather them later: " + server.Reason(err))
	}
	return nil
}
