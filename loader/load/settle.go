package load

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// settleKeys is the number of keys that are remembered at once while what a look-up decided
// is settled: about 64 MiB.
const settleKeys = 1 << 20

// settle finds out whether a record that was found in the table, after an attempt whose
// outcome was not known, stands in the input once more: the row may then be of the other
// one, and one of the two is in nowhere. That ends as any other repetition does, with an
// error, and the load is not done, whoever asks. It reads the input again, with the keys of
// which the server tells which are equal.
func (l *Load) settle(ctx context.Context, res loader.Result) error {
	looked := res.Looked
	if l.registry != nil && l.committer != nil && l.committer.LooksUp() {
		var err error
		if looked, err = l.registry.Looked(ctx, l.ID); err != nil {
			return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
		}
	}
	if looked.Len() == 0 {
		return nil
	}
	l.note("reading the input once more: the outcome of some chunks was not known, and the same records may stand in it twice")
	defer l.readUntil(ctx, l.settings.Stop)()
	if err := l.checkRepeats(ctx, looked); err != nil {
		return err
	}
	if l.registry == nil {
		return nil
	}
	if err := l.registry.Settle(ctx, l.ID); err != nil {
		return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	return nil
}

// checkRepeats returns an error that names the first record found whose key another one in
// the given ranges has.
func (l *Load) checkRepeats(ctx context.Context, ranges chunker.Ranges) error {
	seen := map[commit.KeyHash]int64{} // positions, by key
	compare := func() error {
		var all chunker.Ranges
		all.Add(chunker.Range{End: l.Dataset.Size().Positions})
		return l.eachKey(ctx, all, func(c *rows.Chunk, i int, key commit.KeyHash) error {
			at := c.Origin.Place(i)
			if first, ok := seen[key]; ok && first != at.Position {
				return l.repeated(ctx, ranges, first, at, l.committer.KeyText(c, i))
			}
			return nil
		})
	}
	err := l.eachKey(ctx, ranges, func(c *rows.Chunk, i int, key commit.KeyHash) error {
		at := c.Origin.Place(i)
		if first, ok := seen[key]; ok {
			return l.repeated(ctx, ranges, first, at, l.committer.KeyText(c, i))
		}
		if seen[key] = at.Position; len(seen) < settleKeys {
			return nil
		}
		err := compare()
		clear(seen)
		return err
	})
	if err == nil && len(seen) > 0 {
		err = compare()
	}
	return err
}

// repeated returns the error of two records with the same key: one within ranges, at a
// position, and another.
func (l *Load) repeated(ctx context.Context, ranges chunker.Ranges, position int64, other rows.Place, key string) error {
	found := rows.Place{Position: -1}
	err := l.eachRow(ctx, ranges, func(c *rows.Chunk) error {
		for i := range c.Len() {
			if at := c.Origin.Place(i); at.Position == position {
				found = at
				return io.EOF
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if found.Position > other.Position {
		found, other = other, found
	}
	return &commit.RowError{Place: other, Err: &commit.DuplicateError{Key: key, Why: fmt.Sprintf("the record at %s has it too, and one of the two is not in the table", found)}}
}

// eachKey calls f with each row of the ranges and the hash of its key.
func (l *Load) eachKey(ctx context.Context, ranges chunker.Ranges, f func(c *rows.Chunk, i int, key commit.KeyHash) error) error {
	return l.eachRow(ctx, ranges, func(c *rows.Chunk) error {
		var keys []commit.KeyHash
		err := server.Again(ctx, func() (err error) {
			keys, err = l.committer.KeyHashes(ctx, c)
			return err
		})
		if err != nil {
			return fmt.Errorf("%w: compare the keys of %s: %w", loader.ErrUnconfirmed, loader.Place(l.Dataset.Source(), c.Span), err)
		}
		for i, key := range keys {
			if err := f(c, i, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachRow calls f with the rows of the ranges, in chunks.
func (l *Load) eachRow(ctx context.Context, ranges chunker.Ranges, f func(c *rows.Chunk) error) error {
	l.Dataset.Raw(false)
	src := l.Dataset.Source()
	c := rows.NewChunk(src.Columns())
	for _, r := range ranges.All() {
		spans := loader.Cut(src, r)
		for {
			span, err := spans.Next(verifyRows)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = src.Fill(c, span)
			}
			if err == nil && c.Len() > 0 {
				err = f(c)
			}
			if err != nil {
				return err
			}
			if h, ok := src.(loader.Holder); ok {
				h.Done(span)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.settings.Stop:
				return loader.ErrStopped
			default:
			}
		}
	}
	return nil
}
