package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
)

// Removable returns why the rows of a load opened by Resume cannot be removed; nil if they can.
// Rows are identified by their whole key and content.
func (l *Load) Removable(ctx context.Context) error {
	refuse := func(why string) error {
		return &dataset.ResumeError{Reason: fmt.Sprintf("load %s: its rows cannot be removed: %s; nothing was changed", l.ID, why)}
	}
	rec, err := l.record.registry.Get(ctx, l.ID)
	if err != nil {
		return err
	}
	how, conflict := l.Dataset.Verification(), l.Dataset.Options().Conflict
	switch {
	case rec.State == registry.Done:
		return refuse("it is complete")
	case l.record.spec.Import != nil:
		return refuse("IMPORT loads all rows or none")
	case conflict != "":
		return refuse(fmt.Sprintf("with --on-conflict %s they may include rows of others", conflict))
	case how.Keyless:
		return refuse("the input does not hold the whole primary key")
	case len(how.Computed) > 0:
		return refuse("columns computed by --set cannot be compared")
	}
	why, err := commit.CheckRemovable(ctx, l.pool, l.Table)
	if err == nil && why != "" {
		err = refuse(why)
	}
	return err
}

// removeRows is the number of rows removed at once.
const removeRows = 5000

// RemoveRows deletes the rows of a cancelled load from the table, in chunks. Rows changed since
// the load stay. It may be stopped anywhere, and called again. observe, if not nil, gets the
// number of positions processed so far.
func (l *Load) RemoveRows(ctx context.Context, observe func(int64)) (total commit.Removed, err error) {
	rec, err := l.record.registry.Get(ctx, l.ID)
	if err != nil {
		return total, err
	}
	if rec.State != registry.Cancelled {
		return total, &dataset.ResumeError{Reason: fmt.Sprintf("load %s is not cancelled", l.ID)}
	}
	var rejected []int64 // positions, ascending
	err = l.record.registry.EachReject(ctx, l.ID, func(r rows.Reject) error {
		rejected = append(rejected, r.Position)
		return nil
	})
	if err != nil {
		return total, err
	}
	l.Dataset.Reread(true)
	defer l.Dataset.Reread(false)
	defer dataset.ReadUntil(ctx, l.Dataset, l.settings.Stop)()
	in := l.Dataset.Source()
	c, part := rows.NewChunk(in.Columns()), rows.NewChunk(in.Columns())
	var done int64
	for _, r := range rec.Done.All() {
		spans := loader.Cut(in, r)
		for {
			select {
			case <-l.settings.Stop:
				return total, loader.ErrStopped
			default:
			}
			span, err := spans.Next(removeRows)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = in.Fill(c, span)
			}
			if err != nil {
				return total, err
			}
			removed, err := l.removeSpan(ctx, c, part, rejected)
			if err != nil {
				return total, fmt.Errorf("remove %s: %w", loader.Place(in, span), err)
			}
			total.Rows += removed.Rows
			total.Changed += removed.Changed
			total.Missing += removed.Missing
			if h, ok := in.(loader.Holder); ok {
				h.Done(span)
			}
			if done += span.Count; observe != nil {
				observe(done)
			}
		}
	}
	return total, nil
}

// removeSpan removes the rows of a chunk, except for rejects.
func (l *Load) removeSpan(ctx context.Context, c, part *rows.Chunk, rejected []int64) (commit.Removed, error) {
	if c.Origin != nil && len(rejected) > 0 {
		var kept []int
		for i := range c.Len() {
			if _, bad := slices.BinarySearch(rejected, c.Origin.Place(i).Position); !bad {
				kept = append(kept, i)
			}
		}
		c.CopyList(part, kept)
		c = part
	}
	var rekeyed map[int64]int64
	if l.committer.Redraw != nil {
		var err error
		if rekeyed, err = l.record.registry.Rekeyed(ctx, l.ID, chunker.Range{First: c.Span.First, End: c.Span.End()}); err != nil {
			return commit.Removed{}, err
		}
	}
	return l.committer.Remove(ctx, c, rekeyed)
}
