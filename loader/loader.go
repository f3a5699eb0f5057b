// Package loader loads rows in chunks, each row exactly once.
//
// A Job joins a Source, which computes or parses rows, with a Committer, which
// makes a chunk of them durable. Job.Run cuts the load into spans, lets workers
// fill and commit them in parallel, and compares what was confirmed with what was
// asked for. Package loader generates no rows and sends no SQL itself: sources are
// in loader/dataset and loader/files, the ways to commit in loader/commit, and the record of loads
// that makes them resumable in loader/registry.
//
// This package and package chunker are the stable interface of the module.
package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkload/chunker"
	"bulkload/loader/failure"
	"bulkload/loader/rows"
)

// A Source gives the rows of a load. What a span holds never depends on how the
// load was cut. Both methods are called by several workers at once.
//
// A Source may also be a Cutter, where its positions are not row numbers, a Holder,
// where it cannot be read twice, and a Placer, where people know its spans by other names.
type Source interface {
	// Columns names the columns of every chunk, in order.
	Columns() []rows.Column
	// Fill puts the rows of span into c, whose memory is reused. The error
	// says that the data is bad, with its place.
	Fill(c *rows.Chunk, span chunker.Span) error
}

// A Committer makes the rows of a chunk durable, exactly once, and retries what can
// be retried. It is called by several workers at once.
type Committer interface {
	// Commit returns when the server has confirmed every row of c, or with the
	// reason why that is not so; then none of the chunk's rows is in, unless
	// the error wraps ErrUnconfirmed.
	Commit(ctx context.Context, c *rows.Chunk) (Outcome, error)
}

// An Outcome says how a chunk came to be in the table.
type Outcome struct {
	// AlreadyCommitted is true when the rows were found there, committed by an earlier
	// attempt whose reply was lost, by an earlier run or by another loader.
	AlreadyCommitted bool
	Retries          int // attempts that the server refused and that were made again
	LookUps          int // uncertain outcomes that were decided by looking
	// Looked is true when equal rows were found and taken for the chunk's. That is to be
	// settled: the input may hold the same records elsewhere.
	Looked bool
	// Throttled is true when the server refused attempts since too many transactions were
	// open: fewer workers should go on.
	Throttled bool
	// Uncertain is true when rows were sent and it is not known what became of them, also
	// beside an error, and only a look-up can tell.
	Uncertain bool
	// Rejected is the number of the chunk's records that are not in and were
	// recorded as such; Conflicts the number of rows whose key was there
	// before, and that were passed over or took its place.
	Rejected, Conflicts int
	// CommittedRange is, when not empty, a larger range that the ledger has already.
	CommittedRange chunker.Range
}

// Errors that Run's error may wrap, for errors.Is.
var (
	// ErrStopped: Job.Stop was closed and the running chunks were finished.
	ErrStopped = failure.New(failure.Interrupted, "stopped")
	// ErrTooLarge, from a Committer: the server refuses a chunk of this size;
	// none of it is in. The pipeline commits it in halves.
	ErrTooLarge = failure.New(failure.Data, "chunk too large for the server")
	// ErrSlow, from a Committer: a chunk of this size did not go in within its
	// time; none of it is in, or what is in will be found. The pipeline commits it
	// in halves.
	ErrSlow = errors.New("chunk took too long")
	// ErrUnconfirmed: the server confirmed fewer rows than were sent, or it
	// cannot be found out.
	ErrUnconfirmed = failure.New(failure.Unconfirmed, "not confirmed")
	// ErrGaveUp: a chunk could not be committed within the time for retries.
	// The load can be resumed.
	ErrGaveUp = failure.ErrGaveUp
	// ErrStalled: nothing was under way for longer than Job.StallTimeout. That is a
	// fault of the loader. The load can be resumed.
	ErrStalled = failure.New(failure.GaveUp, "stalled")
	// ErrLost: another run has taken over what this one held, or the load was
	// forgotten.
	ErrLost = failure.New(failure.Refused, "the load was taken over")
	// ErrBusy, from a Queue: what is left is held by other runs that live.
	ErrBusy = errors.New("held by other runs")
)

// A Lease is a range of positions that one run works on and no other.
type Lease struct {
	chunker.Range
	// Done holds the ranges within the claim that are in.
	Done chunker.Ranges
	// Open holds the ranges within the claim that an earlier run may have sent without
	// having recorded them: their rows may be in. It is empty where a ledger tells.
	Open chunker.Ranges
}

// A Doubter is a Queue that keeps what is in doubt about positions, for the runs to come.
type Doubter interface {
	// Doubt records, before anything else is recorded of it, that a range was decided by
	// looking (see Outcome.Looked), or that it may have been sent.
	Doubt(ctx context.Context, r chunker.Range, looked bool) error
}

// A Queue hands out the positions of a load that are not in yet, and keeps what is
// in. One load may have several runs, on several machines, each with a Queue of its
// own. Its methods are called by several workers at once.
type Queue interface {
	// Claim returns a range that nobody else holds, at most a fair share, and
	// where it can be no less than a chunk, which has chunkRows rows now; where
	// positions are no rows, what that comes to is the queue's to know. io.EOF:
	// everything is in or held by this run. ErrBusy: ask again later.
	Claim(ctx context.Context, chunkRows int64) (Lease, error)
	// Checkpoint records what is in of claims that go on. Its cost must not
	// depend on the number of chunks. ErrLost: a claim is no longer ours.
	Checkpoint(ctx context.Context, claims []Lease) error
	// Release gives a claim back, with what is in of it. A *GoneError: the claim was
	// given back, without what the server does not have any more.
	Release(ctx context.Context, c Lease) error
}

// A GoneError, from a Queue, says that the server does not have what it had confirmed. A
// crash may have taken it, where commits are confirmed before they are on disk. What is
// gone is free again, and the run goes on with it.
type GoneError struct{ Ranges []chunker.Range }

func (e *GoneError) Error() string {
	var n int64
	for _, x := range e.Ranges {
		n += x.Len()
	}
	return fmt.Sprintf("%d positions that the server had confirmed are gone", n)
}

// An Event is what happened to one chunk, or why one waits.
type Event struct {
	Span    chunker.Span
	Outcome Outcome
	Elapsed time.Duration // from the first attempt to the server's confirmation
	// Note, when not empty, says something that a user should know while the
	// load goes on; the other fields are then zero.
	Note string
	// Gone are ranges of earlier events that the server does not have any more, with
	// a Note that says so. They are loaded again.
	Gone []chunker.Range
}

// A Result is the total of a run's events.
type Result struct {
	Rows                 int64 // rows confirmed by this run, AlreadyCommitted included
	AlreadyCommittedRows int64 // of these, rows that were found to be there
	Positions            int64 // rows or bytes of the source that these rows came from
	Chunks               int64 // chunks confirmed
	Retries              int64 // attempts made again
	LookUps              int64 // uncertain outcomes looked up
	Halved               int64 // chunks committed in halves because they were too large, or took too long
	Rejected             int64 // records recorded as bad; not among Rows
	Conflicts            int64 // of Rows, those whose key was there before
	Gone                 int64 // rows that the server had confirmed and lost; not among Rows until they are in again
	// Looked holds the positions that were decided by looking, and that are still to be
	// settled.
	Looked chunker.Ranges
	// RowsPerChunk is the size of chunk that the run ended with.
	RowsPerChunk int64
	// Workers is the number of workers that the run settled on.
	Workers  int
	Elapsed  time.Duration // of the whole run
	P50, P99 time.Duration // time of a chunk, first attempt to confirmation
}

// RowsPerSecond returns the rate of the run.
func (r Result) RowsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Rows) / r.Elapsed.Seconds()
}
