package load

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
)

// A Report says how the rows in the table compare with those that the seed gives.
type Report struct {
	Rows        int64  // rows that should be there: those that the registry has as loaded
	Same        int64  // there with all their content
	Changed     int64  // there with other content
	Missing     int64  // not there
	Conflicting int64  // rows of others in the load's range of keys
	First       int64  // position of the first row that is changed or missing; -1 for none
	FirstKey    int64  // its key; of generated rows only
	Place       string // of a load of files: the first chunk with such a row
	Want        uint64 // checksum of what the seed gives: see commit.Checksum; zero of files
	Got         uint64 // checksum of what the database has; zero of files

	// Repeated is the number of records of files whose key an earlier one has: one row
	// cannot be both. With --on-conflict they are as they should be, and are not Rows.
	Repeated int64
	// Order is the number of keys whose row holds another record of the input than
	// --on-conflict says.
	Order int64
	// Others is the number of keys that were passed over, and whose row is of no record
	// of the input.
	Others int64
	// Counted says that rows were only counted: There is how many the table has, and
	// Alone that nobody else was seen to write it.
	Counted, Alone bool
	There          int64
	// Unknown says, a sentence each, what was not compared or cannot be told.
	Unknown []string
}

// OK reports whether nothing was found that should be otherwise. What cannot be told is in
// Unknown.
func (r Report) OK() bool {
	if r.Counted {
		return r.There == r.Rows || r.There > r.Rows && !r.Alone
	}
	return r.Same+r.Others == r.Rows && r.Conflicting == 0 && r.Want == r.Got && r.Repeated == 0 && r.Order == 0
}

// ErrIncomplete is wrapped by Verify's error when the load is not complete yet.
var ErrIncomplete = failure.New(failure.Unconfirmed, "the load is not complete")

// verifyRows is the number of rows that are compared at once.
const verifyRows = 5000

// Verify reads every row of a complete load back and compares it. observe, when not
// nil, is told the number of rows compared so far, by several goroutines at once.
func (l *Load) Verify(ctx context.Context, observe func(int64)) (Report, error) {
	rec, err := l.registry.Get(ctx, l.ID)
	if err != nil {
		return Report{}, err
	}
	if err := l.spec.Import.Err(); err != nil {
		return Report{}, err
	}
	if rec.State != registry.Done {
		return Report{}, fmt.Errorf("%w: load %s has %d of %d %s; loader loads resume %s goes on with it", ErrIncomplete, l.ID, rec.Done.Len(), rec.Positions, l.Dataset.Facts().Unit, l.ID)
	}
	if f, ok := l.Dataset.(*files.Dataset); ok {
		return l.verifyFiles(ctx, f, observe)
	}
	total, err := l.verifyRanges(ctx, []chunker.Range{{End: l.rows()}}, observe)
	keys := l.Dataset.Keys()
	if keys.Len() == 0 {
		total.Unknown = append(total.Unknown, "rows that others wrote are not counted: the load's keys lie among theirs")
	}
	if err == nil && keys.Len() > 0 {
		n, err := l.committer.CountKeys(ctx, keys)
		if err != nil {
			return Report{}, fmt.Errorf("count the rows in the load's keys: %w", err)
		}
		total.Conflicting = n - total.Same - total.Changed
	}
	return total, err
}

// verifyRanges compares the generated rows of the given ranges.
func (l *Load) verifyRanges(ctx context.Context, ranges []chunker.Range, observe func(int64)) (Report, error) {
	total := Report{First: -1}
	var spans []chunker.Range
	for _, r := range ranges {
		total.Rows += r.Len()
		for ; r.Len() > 0; r.First += verifyRows {
			spans = append(spans, chunker.Range{First: r.First, End: min(r.First+verifyRows, r.End)})
		}
	}
	var done, next atomic.Int64
	parts := make([]Report, l.Job.Workers)
	group, gctx := errgroup.WithContext(ctx)
	for w := range parts {
		part := &parts[w]
		part.First = -1
		group.Go(func() error {
			c := rows.NewChunk(l.Job.Source.Columns())
			for {
				i := next.Add(1) - 1
				if i >= int64(len(spans)) {
					return nil
				}
				span := chunker.RowSpan(spans[i].First, spans[i].Len())
				v, err := l.verifySpan(gctx, c, span)
				if err != nil {
					return fmt.Errorf("verify rows %d to %d: %w", span.First, span.End()-1, err)
				}
				part.add(v)
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

// add adds what was found of a chunk, and reports whether it has the first row so far that
// differs.
func (r *Report) add(v commit.Verdict) bool {
	r.Same += v.Same
	r.Changed += v.Changed
	r.Missing += v.Missing
	r.Want += v.Want
	r.Got += v.Got
	if v.First >= 0 && (r.First < 0 || v.First < r.First) {
		r.First, r.FirstKey = v.First, v.Key
		return true
	}
	return false
}

func (l *Load) verifySpan(ctx context.Context, c *rows.Chunk, span chunker.Span) (commit.Verdict, error) {
	if err := l.Job.Source.Fill(c, span); err != nil {
		return commit.Verdict{}, err
	}
	var moved map[int64]int64
	if l.committer.Redraw != nil {
		var err error
		if moved, err = l.registry.Rekeyed(ctx, l.ID, span.Range()); err != nil {
			return commit.Verdict{}, err
		}
	}
	return l.committer.Verify(ctx, c, moved)
}
