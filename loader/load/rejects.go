package load

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A tolerance keeps count of the rejects of a load, over all of its runs.
type tolerance struct {
	Tolerance
	most int64 // rejects that are allowed; of a share, where the rows are known

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
	most := t.most
	if most < 0 {
		most = int64(t.Percent / 100 * float64(max(t.rows, shareRows)))
	}
	if t.sum > most {
		return fmt.Errorf("%d bad rows are more than --max-errors %s allows", t.sum, t.Tolerance)
	}
	return nil
}

// watch begins to count rejects and rows.
func (l *Load) watch(ctx context.Context, s *Settings) error {
	c := l.spec.CSV
	if c.MaxErrors.none() {
		return nil
	}
	t := &tolerance{Tolerance: c.MaxErrors, most: c.MaxErrors.Records, chunks: map[int64]int64{}}
	if c.MaxErrors.Percent > 0 {
		t.most = -1
		if n := c.estimate(); n > 0 {
			t.most = int64(c.MaxErrors.Percent / 100 * float64(n))
		}
	}
	var err error
	if t.sum, err = l.registry.CountRejects(ctx, l.ID); err != nil {
		return err
	}
	observe := s.Observe
	s.Observe = func(e loader.Event) {
		t.mu.Lock()
		t.rows += e.Span.Rows
		t.mu.Unlock()
		if observe != nil {
			observe(e)
		}
	}
	l.tolerance = t
	return nil
}

// optionsCSV is options for files.
func (l *Load) optionsCSV(s Settings) commit.Options {
	c := l.spec.CSV
	way, via := l.carrier()
	o := commit.Options{
		Table: l.Table.Name, Columns: l.csv.Cols, Keys: l.keysCSV(), Store: l.storeCSV(), Conflict: c.Conflict, Overriding: l.overriding(), Began: c.Began,
		Way: way, Via: via, TextCopy: true,
		Load: l.ID, Run: l.run, ChunkTimeout: s.ChunkTimeout, RetryFor: s.RetryFor, Note: s.Note, Unproven: s.Unproven,
		MaxMessageBytes: l.mostMessage(),
	}
	if l.tolerance != nil {
		o.Tolerate = l.tolerance.add
	}
	if c.wholeRecords() {
		o.Dialect = &c.Dialect
	}
	return o
}

// overriding reports whether a column is GENERATED ALWAYS AS IDENTITY: COPY writes to it, and
// INSERT where it is told to.
func (l *Load) overriding() bool {
	return l.srv.Product == server.PostgreSQL && slices.ContainsFunc(l.Table.Columns, func(c server.Column) bool {
		return c.Always && slices.ContainsFunc(l.spec.CSV.Fields, func(f csvField) bool { return f.Column && f.Name == c.Name })
	})
}

// wholeRecords reports whether each field goes into a column, in the columns' order.
func (c *csvSpec) wholeRecords() bool {
	for i, f := range c.Fields {
		if f.Field != i || !f.Column {
			return false
		}
	}
	return len(c.Fields) == c.Width
}

// reopenCSV makes the source of a recorded load of files, if they are still the same.
func (l *Load) reopenCSV(ctx context.Context, s Settings) error {
	c := l.spec.CSV
	if c == nil {
		return fmt.Errorf("load %s: its record names no files", l.ID)
	}
	if l.input = s.Input; l.input == nil {
		return fmt.Errorf("load %s: no Input to open its files with", l.ID)
	}
	reading, done := loader.WithStop(ctx, s.Stop)
	defer done()
	for i := range c.Files {
		if err := l.input.Same(reading, &c.Files[i], s.AnyTime); err != nil {
			return err
		}
		if s.AnyTime {
			if err := l.input.Touch(&c.Files[i]); err != nil {
				return err
			}
		}
	}
	return l.useCSV(c)
}

// Rejects returns the number of records of the load that became no row.
func (l *Load) Rejects(ctx context.Context) (int64, error) {
	if l.What != CSV || l.registry == nil {
		return 0, nil
	}
	return l.registry.CountRejects(ctx, l.ID)
}

// EachReject calls f with each of them, in the order of the files.
func (l *Load) EachReject(ctx context.Context, f func(rows.Reject) error) error {
	return l.registry.EachReject(ctx, l.ID, f)
}

// HeaderText returns the header of the load's files, without its end of line; empty for
// files without one.
func (l *Load) HeaderText() string { return l.spec.CSV.Header }

// InputFiles returns the load's files.
func (l *Load) InputFiles() []files.File { return l.spec.CSV.Files }

// Conflict says what becomes of rows whose key is there; empty is an error.
func (l *Load) Conflict() commit.Conflict { return l.spec.CSV.Conflict }
