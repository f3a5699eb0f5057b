package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/importer"
	"bulkload/loader/server"
)

// confirm compares the rows of the job with those of the group and records the group.
func (r *importing) confirm(ctx context.Context, g *group, rows int64) error {
	want := int64(-1)
	if r.What != CSV {
		want = g.claim.Len()
	} else if r.s.Mode == importer.URLs {
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
	if rows < want && r.s.WasEmpty && g.claim.Len() == r.Positions {
		// The reply was lost, or counts what the last node has read of a job that went over
		// to it. The table has the rows of this job, and any that others have added since. To
		// be known before the group counts as done.
		if err := r.online(ctx); err != nil {
			return err
		}
		n, err := r.count(ctx)
		if err != nil {
			return err
		}
		rows = min(n, want)
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

// count counts the rows of the table.
func (r *importing) count(ctx context.Context) (n int64, err error) {
	err = r.retry(ctx, func() error {
		n, err = server.Count(ctx, r.srv, r.Table.Name)
		return err
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: the rows could not be counted: %w", loader.ErrUnconfirmed, err)
	}
	return n, err
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

// online waits until the table can be read: another job may have it. It says so when that
// is not soon, and gives up when patience is over.
func (r *importing) online(ctx context.Context) error {
	waiting, stop := r.untilStop(ctx)
	defer stop()
	waiting, cancel := context.WithTimeout(waiting, r.patience())
	defer cancel()
	told := time.AfterFunc(2*time.Second, func() { r.note("waiting until " + r.Table.Display() + " is online") })
	defer told.Stop()
	err := importer.Online(waiting, r.db, r.Table.Name)
	switch cause := context.Cause(waiting); {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(cause, loader.ErrStopped):
		return cause
	case cause != nil:
		return fmt.Errorf("%w after %s: %w", loader.ErrGaveUp, r.patience(), err)
	}
	return err
}

// finish brings the table back into its former state: constraints validated, statistics
// gathered. Where the server's count of rows was lost, they are counted.
func (r *importing) finish(ctx context.Context) error {
	if err := r.online(ctx); err != nil {
		return err
	}
	if r.Table.OID == 0 { // the job of an earlier run had it offline
		t, err := server.Describe(ctx, r.db, r.srv.Info, r.Table.Name)
		if err != nil {
			return err
		}
		r.Table = t
	}
	if r.unsure && r.What != CSV && r.s.WasEmpty { // several jobs
		n, err := r.count(ctx)
		if err != nil {
			return err
		}
		if n < r.Rows {
			return fmt.Errorf("%w: %s has %d rows, and %d were handed off", loader.ErrUnconfirmed, r.Table.Display(), n, r.Rows)
		}
	}
	if len(r.s.Valid) > 0 {
		r.note(fmt.Sprintf("validating %s", strings.Join(r.s.Valid, ", ")))
		if err := r.retry(ctx, func() error { return importer.Validate(ctx, r.pool, r.Table.Name, r.s.Valid) }); err != nil {
			return err
		}
	}
	ctx, stop := r.untilStop(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	if err := importer.Analyze(ctx, r.pool, r.Table.Name); err != nil {
		r.note("statistics could not be gathered, and will be by the server in time: " + server.Reason(err))
	}
	return nil
}
