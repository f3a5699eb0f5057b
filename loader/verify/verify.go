// Package verify reads the rows of a load a second time, and compares them with the rows of the
// table, or with each other. It changes nothing, and leaves the consequences of a difference to
// the caller.
//
// Begin with Verifier.All.
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

// A Verifier compares the rows of one load. Its methods must not be called concurrently.
type Verifier struct {
	ID        string // of the load; empty without a record
	Dataset   dataset.Dataset
	Committer *commit.Committer // compares rows and keys on the server
	Server    *server.Server
	Registry  *registry.Registry // nil without a record
	Table     *server.Table
	// Workers is the number of spans compared at the same time; zero is one.
	Workers int
	// WasEmpty says that the table was empty before the load.
	WasEmpty bool
	// Elsewhere says that the server read the rows from files of which the dataset has only
	// copies: the rows can be counted, but not compared.
	Elsewhere bool
	// Stop, when closed, ends a comparison with loader.ErrStopped; nil never does.
	Stop <-chan struct{}
	// Note receives messages for the user; nil drops them.
	Note func(string)
}

// A Report compares the table's rows with the dataset's.
type Report struct {
	Rows        int64  // expected rows: those that the registry has as loaded
	Same        int64  // present with the expected content
	Changed     int64  // present with other content
	Missing     int64  // not there
	Conflicting int64  // rows from elsewhere in the load's range of keys
	First       int64  // position of the first row that is changed or missing; -1 for none
	FirstKey    int64  // its key; of computed rows only
	Place       string // of records: the first chunk with a changed or missing row
	Want        uint64 // checksum of the computed rows: see commit.Checksum; zero for records
	Got         uint64 // checksum of their rows in the table; zero for records

	// Repeated is the number of records with the key of an earlier record: one row cannot be
	// both. With --on-conflict such records are valid and not counted in Rows.
	Repeated int64
	// Order is the number of keys whose row is another record of the input than the one that
	// --on-conflict selects.
	Order int64
	// Others is the number of skipped keys whose row is no record of the input.
	Others int64
	// Counted says that rows were only counted. There is the number of the table's rows, and
	// Alone says that no other writer of the table was seen.
	Counted, Alone bool
	There          int64
	// Unknown lists, a sentence each, what could not be compared or decided.
	Unknown []string
}

// OK reports whether no difference was found. Undecided questions are in Unknown.
func (r Report) OK() bool {
	if r.Counted {
		return r.There == r.Rows || r.There > r.Rows && !r.Alone
	}
	return r.Same+r.Others == r.Rows && r.Conflicting == 0 && r.Want == r.Got && r.Repeated == 0 && r.Order == 0
}

// add adds the result of a chunk, and reports whether the chunk has the first differing row so
// far.
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

// spanRows is the number of rows compared at once.
const spanRows = 5000

// All compares every row of a complete load. observe, if not nil, gets the number of positions
// compared so far; several goroutines call it at once.
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
		total.Unknown = append(total.Unknown, "rows of others: their keys lie among those of the load")
		return total, nil
	}
	n, err := v.Committer.CountKeys(ctx, keys)
	if err != nil {
		return Report{}, fmt.Errorf("count the rows in the load's keys: %w", err)
	}
	total.Conflicting = n - total.Same - total.Changed
	return total, nil
}

// Gone describes the rows of the given ranges that are missing from the table or have other
// content; empty if there are none. Rows with keys are compared by key and content, others are
// only counted. atLeast is the number of rows of the ranges; -1 is unknown.
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
			found.Same, found.Changed = found.Same+found.Changed, 0 // with --on-conflict, other content is no loss
		}
	default:
		found, err = v.computedRows(ctx, ranges, nil)
	}
	if err != nil {
		return "", fmt.Errorf("compare the recorded rows: %w", err)
	}
	if found.Same == found.Rows {
		return "", nil
	}
	return fmt.Sprintf("of %d loaded rows, %d are missing and %d have other content", found.Rows, found.Missing, found.Changed), nil
}

// Exactly describes how the table differs from the load's rows: rows that are missing, that have
// other content, or that are no record; empty if it does not. A table that had rows before the
// load cannot be told: a row of the load may be there under another key too.
func (v *Verifier) Exactly(ctx context.Context) (differs string, err error) {
	if !v.WasEmpty || !v.Dataset.Verification().Records || v.Dataset.Size().Once {
		return "duplicate rows cannot be detected: the table was changed during the load, and had rows before", nil
	}
	found, err := v.recordRanges(ctx, []chunker.Range{v.all()})
	if err != nil {
		return "", fmt.Errorf("compare the rows: %w", err)
	}
	n, err := v.countTable(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("count the rows of %s: %w", v.Table.Display(), err)
	case found.Same != found.Rows:
		return fmt.Sprintf("of %d rows, %d are missing and %d have other content: the table was changed during the load", found.Rows, found.Missing, found.Changed), nil
	case n != found.Rows:
		return fmt.Sprintf("it has %d rows, and the load %d: the table was changed during the load", n, found.Rows), nil
	}
	return "", nil
}

// Fewer describes the loss if the table has fewer rows than atLeast; empty if it has not. Other
// loads' rows may hide a loss.
func (v *Verifier) Fewer(ctx context.Context, atLeast int64) (gone string, err error) {
	n, err := v.countTable(ctx)
	if err != nil {
		return "", fmt.Errorf("count the rows of %s: %w", v.Table.Display(), err)
	}
	if n < atLeast {
		gone = fmt.Sprintf("it has %d rows, fewer than the %d loaded", n, atLeast)
	}
	return gone, nil
}

// countTable returns the number of the table's rows.
func (v *Verifier) countTable(ctx context.Context) (n int64, err error) {
	err = server.RetryOpening(ctx, func() error {
		n, err = server.Count(ctx, v.Server, v.Table.Name)
		return err
	})
	return n, err
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
