package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
)

// repeatKeys is the maximum number of keys that Repeats keeps in memory: about 64 MiB.
const repeatKeys = 1 << 20

// Repeats returns an error that names the first record found in the given ranges whose key
// another record of the input has; nil if there is none.
func (v *Verifier) Repeats(ctx context.Context, ranges []chunker.Range) error {
	seen := map[commit.KeyHash]int64{} // positions, by key
	compare := func() error {
		return v.eachKey(ctx, []chunker.Range{v.all()}, func(c *rows.Chunk, i int, at rows.Place, key commit.KeyHash) error {
			if first, ok := seen[key]; ok && first != at.Position {
				return v.repeated(ctx, ranges, first, at, v.Committer.KeyText(c, i))
			}
			return nil
		})
	}
	err := v.eachKey(ctx, ranges, func(c *rows.Chunk, i int, at rows.Place, key commit.KeyHash) error {
		if first, ok := seen[key]; ok {
			return v.repeated(ctx, ranges, first, at, v.Committer.KeyText(c, i))
		}
		if seen[key] = at.Position; len(seen) < repeatKeys {
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

// repeated returns the error of two records with the same key: one within ranges, at position,
// and another.
func (v *Verifier) repeated(ctx context.Context, ranges []chunker.Range, position int64, other rows.Place, key string) error {
	found := rows.Place{Position: -1}
	err := v.eachRow(ctx, ranges, func(_ *rows.Chunk, places []rows.Place) error {
		for _, at := range places {
			if at.Position == position {
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
	return &commit.RowError{Place: other, Err: &commit.DuplicateError{Key: key, Why: fmt.Sprintf("the record at %s has the same key, and one of the two is not in the table", found)}}
}

// eachKey calls f with each row of the ranges, its place and the hash of its key.
func (v *Verifier) eachKey(ctx context.Context, ranges []chunker.Range, f func(c *rows.Chunk, i int, at rows.Place, key commit.KeyHash) error) error {
	return v.eachRow(ctx, ranges, func(c *rows.Chunk, places []rows.Place) error {
		keys, err := v.Committer.KeyHashes(ctx, c)
		if err != nil {
			return fmt.Errorf("%w: compare the keys of %s: %w", loader.ErrUnconfirmed, loader.Place(v.Dataset.Source(), c.Span), err)
		}
		for i, key := range keys {
			if err := f(c, i, places[i], key); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachRow calls f with the rows of the ranges and their places, in chunks, without rejects.
func (v *Verifier) eachRow(ctx context.Context, ranges []chunker.Range, f func(c *rows.Chunk, places []rows.Place) error) error {
	rejected, err := v.rejected(ctx)
	if err != nil {
		return err
	}
	v.Dataset.Raw(false)
	src := v.Dataset.Source()
	c, part := rows.NewChunk(src.Columns()), rows.NewChunk(src.Columns())
	spans := loader.Cut(src, ranges...)
	for {
		span, err := spans.Next(spanRows)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = src.Fill(c, span)
		}
		if err == nil {
			var kept []int
			var places []rows.Place
			for i := range c.Len() {
				at := c.Origin.Place(i)
				if _, bad := slices.BinarySearch(rejected, at.Position); !bad {
					kept, places = append(kept, i), append(places, at)
				}
			}
			accepted := c
			if len(kept) < c.Len() {
				c.CopyList(part, kept)
				accepted = part
			}
			if len(kept) > 0 {
				err = f(accepted, places)
			}
		}
		if err != nil {
			return err
		}
		release(src, span)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-v.Stop:
			return loader.ErrStopped
		default:
		}
	}
}
