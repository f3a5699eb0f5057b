package load

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
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// rejected returns the positions of the load's rejects, ascending.
func (l *Load) rejected(ctx context.Context) (list []int64, err error) {
	if l.registry == nil {
		return nil, nil
	}
	err = l.registry.EachReject(ctx, l.ID, func(r rows.Reject) error {
		list = append(list, r.Position)
		return nil
	})
	return list, err
}

// cutRanges returns the spans of several ranges.
func cutRanges(src *files.CSV, ranges []chunker.Range) func() (chunker.Span, error) {
	var spans loader.Spans
	return func() (chunker.Span, error) {
		for {
			if spans == nil {
				if len(ranges) == 0 {
					return chunker.Span{}, io.EOF
				}
				spans, ranges = src.Cut(ranges[0]), ranges[1:]
			}
			span, err := spans.Next(verifyRows)
			if !errors.Is(err, io.EOF) {
				return span, err
			}
			spans = nil
		}
	}
}

// verifyFileRanges compares the records of the given ranges.
func (l *Load) verifyFileRanges(ctx context.Context, src *files.CSV, ranges []chunker.Range, observe func(int64)) (Report, error) {
	rejected, err := l.rejected(ctx)
	if err != nil {
		return Report{}, err
	}
	total := Report{First: -1}
	// What could not be parsed is among the rejects; values are compared.
	defer func(tolerate, raw bool) { src.Tolerate, src.Raw = tolerate, raw }(src.Tolerate, src.Raw)
	src.Tolerate, src.Raw = true, false
	next := cutRanges(src, ranges)
	var mu sync.Mutex // guards next and total
	var compared int64
	group, ctx := errgroup.WithContext(ctx)
	for range l.Job.Workers {
		group.Go(func() error {
			c, kept := rows.NewChunk(src.Cols), rows.NewChunk(src.Cols)
			for {
				mu.Lock()
				span, err := next()
				mu.Unlock()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = src.Fill(c, span)
				}
				var v commit.Verdict
				if err == nil {
					v, err = l.compareFiles(ctx, c, kept, rejected)
				}
				if err != nil {
					return fmt.Errorf("verify %s: %w", src.Place(span), err)
				}
				mu.Lock()
				total.Rows += v.Same + v.Changed + v.Missing
				if total.add(v) {
					total.Place = src.Place(span)
				}
				compared += span.Count
				if observe != nil {
					observe(compared)
				}
				mu.Unlock()
				src.Done(span)
			}
		})
	}
	err = group.Wait()
	return total, err
}

// compareFiles compares the rows of a chunk that were not rejected.
func (l *Load) compareFiles(ctx context.Context, c, kept *rows.Chunk, rejected []int64) (commit.Verdict, error) {
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
		v, err := l.committer.VerifyText(ctx, part)
		if err != nil {
			return err
		}
		sum.Same += v.Same
		sum.Changed += v.Changed
		sum.Missing += v.Missing
		if v.First >= 0 && sum.First < 0 {
			sum.First = v.First
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
