package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
)

// all is the range of the whole load.
func (v *Verifier) all() chunker.Range { return chunker.Range{End: v.Dataset.Size().Positions} }

// release frees the text that a source holds for a span.
func release(src loader.Source, span chunker.Span) {
	if h, ok := src.(loader.Holder); ok {
		h.Done(span)
	}
}

// countRecords counts the records of ranges, except for rejects.
func (v *Verifier) countRecords(ctx context.Context, ranges []chunker.Range) (n int64, err error) {
	rejected, err := v.rejected(ctx)
	if err != nil {
		return 0, err
	}
	src := v.Dataset.Source()
	spans := loader.Cut(src, ranges...)
	for {
		span, err := spans.Next(spanRows)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		n += span.Rows
		release(src, span)
	}
	for _, at := range rejected {
		if slices.ContainsFunc(ranges, func(r chunker.Range) bool { return r.First <= at && at < r.End }) {
			n--
		}
	}
	return n, nil
}

// recordRanges compares each record of the given ranges with the row of its key.
func (v *Verifier) recordRanges(ctx context.Context, ranges []chunker.Range) (Report, error) {
	rejected, err := v.rejected(ctx)
	if err != nil {
		return Report{}, err
	}
	total := Report{First: -1}
	v.Dataset.Reread(true)
	defer v.Dataset.Reread(false)
	src := v.Dataset.Source()
	spans := loader.Cut(src, ranges...)
	var mu sync.Mutex // guards spans and total
	group, ctx := errgroup.WithContext(ctx)
	for range max(v.Workers, 1) {
		group.Go(func() error {
			c, kept := rows.NewChunk(src.Columns()), rows.NewChunk(src.Columns())
			for {
				mu.Lock()
				span, err := spans.Next(spanRows)
				mu.Unlock()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = src.Fill(c, span)
				}
				var found commit.Verdict
				if err == nil {
					found, err = v.compareRecords(ctx, c, kept, rejected)
				}
				if err != nil {
					return fmt.Errorf("verify %s: %w", loader.Place(src, span), err)
				}
				mu.Lock()
				total.Rows += found.Same + found.Changed + found.Missing
				total.add(found)
				mu.Unlock()
				release(src, span)
			}
		})
	}
	err = group.Wait()
	return total, err
}

// compareRecords compares the rows of a chunk, except for rejects.
func (v *Verifier) compareRecords(ctx context.Context, c, kept *rows.Chunk, rejected []int64) (commit.Verdict, error) {
	sum := commit.Verdict{First: -1}
	from := 0
	compare := func(end int) error {
		if from == end {
			return nil
		}
		part := c
		if end-from < c.Len() {
			c.CopyRows(kept, from, end)
			part = kept
		}
		found, err := v.Committer.VerifyText(ctx, part)
		if err != nil {
			return err
		}
		sum.Same += found.Same
		sum.Changed += found.Changed
		sum.Missing += found.Missing
		if found.First >= 0 && sum.First < 0 {
			sum.First = found.First
		}
		return nil
	}
	for i := range c.Len() {
		if len(rejected) == 0 {
			break
		}
		if _, bad := slices.BinarySearch(rejected, c.Origin.Place(i).Position); bad {
			if err := compare(i); err != nil {
				return sum, err
			}
			from = i + 1
		}
	}
	err := compare(c.Len())
	return sum, err
}
