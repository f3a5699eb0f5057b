// Package verify reads the rows of a load a second time, and compares them with those of the
// table, or with each other. It changes nothing, and it does not decide what becomes of a load
// that differs.
package verify

import (
	"context"
	"fmt"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A Verifier compares the rows of one load. Its methods are called one after the other.
type Verifier struct {
	ID        string // of the load; empty without a record
	Dataset   dataset.Dataset
	Committer *commit.Committer // compares rows and keys on the server
	Server    *server.Server
	Registry  *registry.Registry // nil without a record
	Table     *server.Table
	// Workers is the number of spans that are compared at a time; zero is one.
	Workers int
	// WasEmpty says that the table had no row before the load.
	WasEmpty bool
	// Elsewhere says that the server read the rows from files that the dataset only has copies
	// of: they can be counted, not compared.
	Elsewhere bool
	// Stop ends a comparison with loader.ErrStopped when it is closed; nil never does.
	Stop <-chan struct{}
	// Note tells the user something; nil drops it.
	Note func(string)
}

// A Report says how the rows in the table compare with those of the dataset.
type Report struct {
	Rows        int64  // rows that should be there: those that the registry has as loaded
	Same        int64  // there with all their content
	Changed     int64  // there with other content
	Missing     int64  // not there
	Conflicting int64  // rows of others in the load's range of keys
	First       int64  // position of the first row that is changed or missing; -1 for none
	FirstKey    int64  // its key; of computed rows only
	Place       string // of records: the first chunk with such a row
	Want        uint64 // checksum of the computed rows: see commit.Checksum; zero of records
	Got         uint64 // checksum of what the table has of them; zero of records

	// Repeated is the number of records whose key an earlier one has: one row cannot be
	// both. With --on-conflict they are as they should be, and are not Rows.
	Repeated int64
	// Order is the number of keys whose row holds another record of the input than
	// --on-conflict says.
	Order int64
	// Others is the number of keys that were skipped, and whose row is of no record of the
	// input.
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

// spanRows is the number of rows that are compared at once.
const spanRows = 5000

// All compares every row of a complete load. observe, when not nil, is told the number of
// positions compared so far, by several goroutines at once.
func (v *Verifier) All(ctx context.Context, observe func(int64)) (Report, error) {
	if v.Dataset.Verification().Records {
		return v.allRecords(ctx, observe)
	}
	total, err := v.computedRows(ctx, []chunker.Range{{End: v.Dataset.Size().Positions}}, observe)
	if err != nil {
		return total, err
	}
	keys := v.Dataset.Keys()
	if keys.Len() == 0 {
		total.Unknown = append(total.Unknown, "rows that others wrote are not counted: the load's keys lie among theirs")
		return total, nil
	}
	n, err := v.Committer.CountKeys(ctx, keys)
	if err != nil {
		return Report{}, fmt.Errorf("count the rows in the load's keys: %w", err)
	}
	total.Conflicting = n - total.Same - total.Changed
	return total, nil
}

// Gone says which rows of the given ranges are not in the table, or are other rows there;
// empty: all are there. Rows are compared by key and content where they bring keys, else
// counted. atLeast is the number of rows of the ranges; -1 is unknown.
func (v *Verifier) Gone(ctx context.Context, ranges []chunker.Range, atLeast int64) (gone string, err error) {
	if len(ranges) == 0 {
		return "", nil
	}
	var found Report
	how := v.Dataset.Verification()
	switch {
	case v.Elsewhere, v.Committer.Redraw != nil && v.Registry == nil:
		return v.Fewer(ctx, max(atLeast, 1))
	case how.Records && (how.Keyless || v.Dataset.Size().Once):
		if atLeast < 0 {
			if atLeast, err = v.countRecords(ctx, ranges); err != nil {
				return "", err
			}
		}
		return v.Fewer(ctx, atLeast)
	case how.Records:
		if found, err = v.recordRanges(ctx, ranges); err == nil && v.Dataset.Options().Conflict != "" {
			found.Same, found.Changed = found.Same+found.Changed, 0 // whose content wins is another question
		}
	default:
		found, err = v.computedRows(ctx, ranges, nil)
	}
	if err != nil {
		return "", fmt.Errorf("compare the rows on record: %w", err)
	}
	if found.Same == found.Rows {
		return "", nil
	}
	return fmt.Sprintf("of %d rows that were in, %d are gone and %d have other content", found.Rows, found.Missing, found.Changed), nil
}

// Fewer says what is gone if the table has fewer rows than atLeast. Rows of others may hide
// it.
func (v *Verifier) Fewer(ctx context.Context, atLeast int64) (gone string, err error) {
	n, err := server.Count(ctx, v.Server, v.Table.Name)
	if err != nil {
		return "", fmt.Errorf("count the rows of %s: %w", v.Table.Display(), err)
	}
	if n < atLeast {
		gone = fmt.Sprintf("it has %d rows, fewer than the %d that were in", n, atLeast)
	}
	return gone, nil
}

// rejected returns the positions of the load's rejects, ascending.
func (v *Verifier) rejected(ctx context.Context) (list []int64, err error) {
	if v.Registry == nil {
		return nil, nil
	}
	err = v.Registry.EachReject(ctx, v.ID, func(r rows.Reject) error {
		list = append(list, r.Position)
		return nil
	})
	return list, err
}

func (v *Verifier) note(text string) {
	if v.Note != nil {
		v.Note(text)
	}
}
