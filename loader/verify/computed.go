package verify

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
)

// computedRows compares the computed rows of the given ranges. Each row has its own key.
func (v *Verifier) computedRows(ctx context.Context, ranges []chunker.Range, observe func(int64)) (Report, error) {
	total := Report{First: -1}
	var spans []chunker.Range
	for _, r := range ranges {
		total.Rows += r.Len()
		for ; r.Len() > 0; r.First += spanRows {
			spans = append(spans, chunker.Range{First: r.First, End: min(r.First+spanRows, r.End)})
		}
	}
	var done, next atomic.Int64
	parts := make([]Report, max(v.Workers, 1))
	group, gctx := errgroup.WithContext(ctx)
	for w := range parts {
		part := &parts[w]
		part.First = -1
		group.Go(func() error {
			c := rows.NewChunk(v.Dataset.Source().Columns())
			for {
				i := next.Add(1) - 1
				if i >= int64(len(spans)) {
					return nil
				}
				span := chunker.RowSpan(spans[i].First, spans[i].Len())
				found, err := v.computedSpan(gctx, c, span)
				if err != nil {
					return fmt.Errorf("verify rows %d to %d: %w", span.First, span.End()-1, err)
				}
				part.add(found)
				if n := done.Add(span.Count); observe != nil {
					observe(n)
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	for _, p := range parts {
		total.Same += p.Same
		total.Changed += p.Changed
		total.Missing += p.Missing
		total.Want += p.Want
		total.Got += p.Got
		if p.First >= 0 && (total.First < 0 || p.First < total.First) {
			total.First, total.FirstKey = p.First, p.FirstKey
		}
	}
	return total, nil
}

func (v *Verifier) computedSpan(ctx context.Context, c *rows.Chunk, span chunker.Span) (commit.Verdict, error) {
	if err := v.Dataset.Source().Fill(c, span); err != nil {
		return commit.Verdict{}, err
	}
	var rekeyed map[int64]int64
	if v.Committer.Redraw != nil {
		var err error
		if rekeyed, err = v.Registry.Rekeyed(ctx, v.ID, span.Range()); err != nil {
			return commit.Verdict{}, err
		}
	}
	return v.Committer.Verify(ctx, c, rekeyed)
}
