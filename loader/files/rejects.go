package files

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// A tolerance keeps count of the rejects of a load, over all of its runs.
type tolerance struct {
	Tolerance
	max int64 // rejects that are allowed; of a share, where the rows are known

	mu     sync.Mutex
	sum    int64           // of earlier runs, and of chunks
	rows   int64           // that this run has seen
	chunks map[int64]int64 // rejects of each chunk of this run, by its first position
}

// shareRows is the number of rows from which on a share of them says something.
const shareRows = 1000

// add counts the rejects of a chunk that is about to be committed. An attempt at the
// same chunk counts once.
func (t *tolerance) add(span chunker.Span, n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum += int64(n) - t.chunks[span.First]
	t.chunks[span.First] = int64(n)
	most := t.max
	if most < 0 {
		most = int64(t.Percent / 100 * float64(max(t.rows, shareRows)))
	}
	if t.sum > most {
		return fmt.Errorf("%d bad rows are more than --max-errors %s allows", t.sum, t.Tolerance)
	}
	return nil
}

// observe counts rows.
func (t *tolerance) observe(e loader.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows += e.Span.Rows
	// The rejects of what is gone will be counted again.
	for first, n := range t.chunks {
		if slices.ContainsFunc(e.Gone, func(x chunker.Range) bool { return x.First <= first && first < x.End }) {
			t.sum -= n
			delete(t.chunks, first)
		}
	}
}

// Begin implements dataset.Dataset: it begins to count rejects and rows.
func (d *Dataset) Begin(ctx context.Context, rejected func(context.Context) (int64, error)) error {
	c := d.spec
	switch {
	case c.MaxErrors.none():
		return nil
	case rejected == nil:
		return dataset.Contradict("--max-errors keeps bad rows in the registry, which --no-registry gives up")
	}
	n, err := rejected(ctx)
	if err != nil {
		return err
	}
	t := &tolerance{Tolerance: c.MaxErrors, max: c.MaxErrors.Records, sum: n, chunks: map[int64]int64{}}
	if c.MaxErrors.Percent > 0 {
		t.max = -1
		if n := c.estimate(); n > 0 {
			t.max = int64(c.MaxErrors.Percent / 100 * float64(n))
		}
	}
	d.limit = t
	return nil
}

// Options implements dataset.Dataset.
func (d *Dataset) Options() commit.Options {
	c := d.spec
	o := commit.Options{
		Columns: d.source.Cols, Keys: d.keys(), Store: d.store(), Conflict: c.Conflict, Overriding: d.overriding(), Began: c.Began, TextCopy: true,
	}
	if d.limit != nil {
		o.Tolerate = d.limit.add
	}
	if c.wholeRecords() {
		o.Dialect = &c.Dialect
	}
	return o
}

// overriding reports whether a column is GENERATED ALWAYS AS IDENTITY: COPY writes to it, and
// INSERT where it is told to.
func (d *Dataset) overriding() bool {
	return d.info.Product == server.PostgreSQL && slices.ContainsFunc(d.table.Columns, func(c server.Column) bool {
		return c.Always && slices.ContainsFunc(d.spec.Fields, func(f mappedField) bool { return f.Column && f.Name == c.Name })
	})
}

// wholeRecords reports whether each field goes into a column, in the columns' order.
func (c *spec) wholeRecords() bool {
	for i, f := range c.Fields {
		if f.Field != i || !f.Column {
			return false
		}
	}
	return len(c.Fields) == c.Width
}
