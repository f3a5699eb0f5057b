package loader_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/rows"
)

// wide is a source whose rows are of 100 positions each, as the bytes of a file are.
type wide struct{}

const wideRow = 100

func (wide) Columns() []rows.Column { return []rows.Column{{Name: "id", Kind: rows.Int}} }

func (wide) Fill(c *rows.Chunk, span chunker.Span) error {
	c.Reset(span, int(span.Rows))
	return nil
}

func (wide) Cut(r chunker.Range) loader.Spans { return &wideSpans{r} }

type wideSpans struct{ left chunker.Range }

func (s *wideSpans) Next(n int64) (chunker.Span, error) {
	n = min(n, s.left.Len()/wideRow)
	if n == 0 {
		return chunker.Span{}, io.EOF
	}
	span := chunker.Span{First: s.left.First, Count: n * wideRow, Rows: n}
	s.left.First = span.End()
	return span, nil
}

// overtaken is a Committer that says of the first chunk that it took too long; when a
// part of it comes, the whole was in after all.
type overtaken struct{ whole chunker.Range }

func (o *overtaken) Commit(_ context.Context, c *rows.Chunk) (loader.Outcome, error) {
	switch r := c.Span.Range(); {
	case o.whole.Len() == 0:
		o.whole = r
		return loader.Outcome{}, fmt.Errorf("%w: in a test", loader.ErrSlow)
	case r.First >= o.whole.First && r.End <= o.whole.End:
		return loader.Outcome{AlreadyCommitted: true, CommittedRange: o.whole}, nil
	}
	return loader.Outcome{}, nil
}

// TestRowsOfAChunkThatWasInAfterAll counts rows, and not the positions that they take,
// when the ledger has the whole of a chunk whose halves are sent.
func TestRowsOfAChunkThatWasInAfterAll(t *testing.T) {
	const n, size = 1000, 64
	job := &loader.Job{Source: wide{}, Committer: &overtaken{}, Positions: n * wideRow, Plan: chunker.Plan{RowsPerChunk: size}, Workers: 1}
	res, err := job.Run(context.Background())
	if err != nil || res.Rows != n || res.AlreadyCommittedRows != size || res.Positions != n*wideRow {
		t.Errorf("got %d rows, %d of them there already, of %d positions, %v; want %d, %d, %d", res.Rows, res.AlreadyCommittedRows, res.Positions, err, n, size, n*wideRow)
	}
}
