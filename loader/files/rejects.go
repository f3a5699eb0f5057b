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

// A tolerance counts the rejects and the records of a load, over all of its runs.
type tolerance struct {
	Tolerance

	mu      sync.Mutex
	rejects int64 // of earlier runs and this run's chunks
	read    int64 // records of earlier runs, and of committed or counted chunks
	// chunks are this run's chunks with rejects, by their first position.
	chunks map[int64]toldChunk
}

// A toldChunk is the counted part of a chunk.
type toldChunk struct{ rejects, read int64 }

// shareRecords is the minimum number of records to which a share applies: fewer records count
// as this many.
const shareRecords = 1000

// allowed returns the number of rejects allowed so far. A share refers to the records read so
// far, so that it means the same with and without a known end of the input.
func (t *tolerance) allowed() int64 {
	if t.Percent > 0 {
		return int64(t.Percent / 100 * float64(max(t.read, shareRecords)))
	}
	return t.Records
}

// add counts the rejects and records of a chunk before its commit. Repeated attempts at a chunk
// count once.
func (t *tolerance) add(span chunker.Span, n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.chunks[span.First]
	t.rejects += int64(n) - before.rejects
	t.read += span.Rows - before.read
	t.chunks[span.First] = toldChunk{int64(n), span.Rows}
	if t.rejects <= t.allowed() {
		return nil
	}
	of := ""
	if t.Percent > 0 {
		of = fmt.Sprintf(" of %d", t.read)
	}
	return fmt.Errorf("%d bad records%s are more than --max-errors %s allows", t.rejects, of, t.Tolerance)
}

// observe counts the records of committed chunks.
func (t *tolerance) observe(e loader.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if told, ok := t.chunks[e.Span.First]; !ok || e.Span.Rows > told.read {
		t.read += e.Span.Rows - told.read
	}
	// The rejects of undone chunks will be counted again.
	for first, told := range t.chunks {
		if slices.ContainsFunc(e.Gone, func(x chunker.Range) bool { return x.First <= first && first < x.End }) {
			t.rejects -= told.rejects
			t.read -= told.read
			delete(t.chunks, first)
		}
	}
}

// MoreErrors implements dataset.Tolerant.
func (d *Dataset) MoreErrors() string {
	switch t := d.spec.MaxErrors; {
	case t.Percent > 0:
		return "100%"
	default:
		return fmt.Sprint(max(10*t.Records, 100))
	}
}

// Begin implements dataset.Dataset: it starts counting rejects and records.
func (d *Dataset) Begin(ctx context.Context, counted func(context.Context) (rejected, read int64, err error)) error {
	c := d.spec
	switch {
	case c.MaxErrors.none():
		return nil
	case counted == nil:
		return dataset.Contradict(rejectsNeedRecord)
	}
	rejected, read, err := counted(ctx)
	if err != nil {
		return err
	}
	d.limit = &tolerance{Tolerance: c.MaxErrors, rejects: rejected, read: read, chunks: map[int64]toldChunk{}}
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

// overriding reports whether a column is GENERATED ALWAYS AS IDENTITY. COPY writes to such a
// column; INSERT needs OVERRIDING SYSTEM VALUE.
func (d *Dataset) overriding() bool {
	return d.info.Product == server.PostgreSQL && slices.ContainsFunc(d.table.Columns, func(c server.Column) bool {
		return c.Always && slices.ContainsFunc(d.spec.Fields, func(f mappedField) bool { return f.Column && f.Name == c.Name })
	})
}

// wholeRecords reports whether each field goes into a column, in the order of the columns.
func (c *spec) wholeRecords() bool {
	for i, f := range c.Fields {
		if f.Field != i || !f.Column {
			return false
		}
	}
	if slices.ContainsFunc(c.Files, func(f File) bool { return f.Order != nil }) {
		return false
	}
	return len(c.Fields) == c.Width && !c.Tail && !c.ShortRows
}
