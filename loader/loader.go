// Package loader loads rows in chunks, each row exactly once.
//
// A [Job] connects a [Source], which computes or parses rows, with a [Committer], which makes
// a chunk of them durable. Job.Run cuts the load into spans, lets workers fill and commit them
// in parallel, and compares the confirmed amount with the requested one. Package loader
// generates no rows and sends no SQL itself.
//
// # The way of a row
//
// A dataset ([bulkload/loader/dataset], [bulkload/loader/files], [bulkload/loader/anytable]) says
// what is loaded. Package [bulkload/loader/load] opens a load of it: it finds or creates the
// table, plans the chunks with [bulkload/chunker], enters the load in the registry, and connects
// source, committer and queue. From there on a row passes these functions:
//
//  1. The dispatcher leases a range of positions from the [Queue] and cuts it into spans.
//  2. A worker takes a span, and Source.Fill puts its rows into the worker's chunk. Nothing
//     else holds rows, so that memory is one chunk for each worker.
//  3. Committer.Commit sends the chunk and returns when the server has confirmed each row, or
//     an error that says that none is committed, or [ErrUnconfirmed].
//  4. The dispatcher records the confirmed range in the queue: a checkpoint of the lease, and
//     its release when it is complete.
//  5. When the last worker has returned, Run compares what was confirmed with the plan.
//
// IMPORT INTO goes another way: [bulkload/loader/importer] hands the same rows to the server's
// own reader, and follows its job.
//
// # The two ways to commit
//
// Package [bulkload/loader/commit] has two modes. By statement, a chunk is one INSERT outside
// of BEGIN and COMMIT; if its outcome is unknown, the keys and the content of its rows are looked
// up. By transaction, a chunk is a row of the ledger and the rows in one transaction; if its
// outcome is unknown, the row of the ledger decides.
//
// # Who holds which lock
//
//   - A run holds leases, rows of loader.claims that carry its name. It renews them by
//     heartbeats. Another run takes over a lease after it has ended the sessions of its holder.
//   - A transaction of the registry locks the load's row in loader.loads, for a few statements.
//     It never reads a file meanwhile.
//   - A chunk's transaction locks its rows as any INSERT does. The statement that writes the row
//     of the ledger also reads the lease, so that a run that has lost it cannot commit: on
//     PostgreSQL it locks the lease's row, and CockroachDB's transactions are serializable.
//   - Within the process the dispatcher has one mutex, and holds it during no other call.
//     queueMu serializes what is written to the queue.
//
// # What is there after a kill -9
//
// All of it is in the database: the load with its definition and committed ranges
// (loader.loads), the leases of the dead run with their checkpoints (loader.claims), a row for
// each chunk that was committed by transaction since (loader.ledger), the ranges that may have
// been sent where no ledger tells (loader.sent), ranges whose outcome was unknown
// (loader.doubts), rejected records (loader.rejects), and the definitions of indexes
// that were dropped (loader.indexes). The next run ends the dead run's sessions, adds up what is
// committed, and loads the rest. On disk are at most files of rejects, which the next run
// completes from loader.rejects.
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

// A Source provides the rows of a load. The content of a span never depends on how the load
// was cut. Both methods must be safe for concurrent use.
//
// A Source may implement Cutter if its positions are not row numbers, Holder if it cannot be
// read twice, and Placer if people know its spans by other names.
type Source interface {
	// Columns names the columns of every chunk, in order.
	Columns() []rows.Column
	// Fill replaces the contents of c, whose memory is reused, with the rows of span. The
	// error means that the data is bad, and says where.
	Fill(c *rows.Chunk, span chunker.Span) error
}

// A Committer makes the rows of a chunk durable, exactly once, and retries transient failures.
// It must be safe for concurrent use.
type Committer interface {
	// Commit returns nil when the server has confirmed every row of c. After an error none of
	// the chunk's rows is committed, unless the error wraps ErrUnconfirmed.
	Commit(ctx context.Context, c *rows.Chunk) (Outcome, error)
}

// An Outcome describes how a chunk was committed.
type Outcome struct {
	// AlreadyCommitted is true when the rows were already in the table: committed by an
	// earlier attempt whose reply was lost, by an earlier run or by another loader.
	AlreadyCommitted bool
	Retries          int // attempts that the server refused and that were repeated
	LookUps          int // uncertain outcomes decided by a look-up
	// LookedUp is true when a look-up found equal rows and took them for the chunk's. That must
	// be settled later: the input may hold the same records elsewhere.
	LookedUp bool
	// Throttled is true when the server refused attempts because too many transactions were
	// open: the run should continue with fewer workers.
	Throttled bool
	// Uncertain is true when rows were sent and only a look-up can tell whether they were
	// committed. It may be set together with an error.
	Uncertain bool
	// Rejected is the number of the chunk's records that were not committed but recorded as
	// rejects. Conflicts is the number of rows whose key already existed, and that were
	// skipped or replaced the existing row.
	Rejected, Conflicts int
	// CommittedRange, when not empty, is a larger range that the ledger already holds.
	CommittedRange chunker.Range
	// Hash, when not empty, identifies the input of the chunk, for the queue; see HashedRange.
	Hash string
}

// A HashedRange is a committed chunk, with the hash of its input bytes and its number of
// records. A load can go on with a changed input that still has them.
type HashedRange struct {
	chunker.Range
	Hash    string
	Records int64
}

// Errors that Run's error may wrap, for errors.Is.
var (
	// ErrStopped: Job.Stop was closed and the running chunks were finished.
	ErrStopped = failure.New(failure.Interrupted, "stopped")
	// ErrTooLarge, from a Committer: the server refuses a chunk of this size; none of it is
	// committed. The pipeline commits it in halves.
	ErrTooLarge = failure.New(failure.Data, "chunk too large for the server")
	// ErrSlow, from a Committer: a chunk of this size was not committed within its deadline.
	// None of it is committed, or a look-up will find what is. The pipeline commits it in
	// halves.
	ErrSlow = errors.New("chunk took too long")
	// ErrUnconfirmed: the server confirmed fewer rows than were sent, or the number cannot be
	// determined.
	ErrUnconfirmed = failure.New(failure.Unconfirmed, "not confirmed")
	// ErrGaveUp: a chunk could not be committed within the time for retries. The load can be
	// resumed.
	ErrGaveUp = failure.ErrGaveUp
	// ErrStalled: there was no activity for longer than Job.StallTimeout. That is a bug in the
	// loader. The load can be resumed.
	ErrStalled = failure.New(failure.GaveUp, "stalled")
	// ErrHung, from a Source or its Spans: the input does not answer at this place. The run goes
	// on with the others, and ends with this error. Spans pass the place after the error.
	ErrHung = failure.New(failure.GaveUp, "the input does not answer")
	// ErrLost: another run has taken over a lease of this one, or the load was deleted from
	// the registry.
	ErrLost = failure.New(failure.Refused, "the load was taken over")
	// ErrBusy, from a Queue: other live runs hold the rest.
	ErrBusy = errors.New("held by other runs")
)

// A Lease is a range of positions held exclusively by one run.
type Lease struct {
	chunker.Range
	// Done holds the committed ranges within the lease.
	Done chunker.Ranges
	// Open holds the ranges within the lease that an earlier run may have sent without
	// recording them: their rows may be committed. It is empty if a ledger can tell.
	Open chunker.Ranges
	// Hashed are committed chunks of which no ledger keeps the hashes.
	Hashed []HashedRange
}

// An InDoubtQueue is a Queue that also records uncertain ranges for later runs.
type InDoubtQueue interface {
	// RecordInDoubt records that a look-up decided a range (looked, see Outcome.Looked), or that it
	// may have been sent. It precedes any other record of the range.
	RecordInDoubt(ctx context.Context, r chunker.Range, looked bool) error
}

// An AnnouncingQueue is a Queue that records positions before their rows are sent, so that after
// a kill -9 only these may be in without a record.
type AnnouncingQueue interface {
	// Announce records that rows of a first part of r may be sent from now on, and returns that
	// part: it ends where the source can be cut. Nothing behind it may be sent. After ErrHung
	// the part is the one that does not answer.
	Announce(ctx context.Context, r chunker.Range) (chunker.Range, error)
}

// A Queue hands out the positions of a load that are not committed yet, and records those that
// are. One load may have several runs, on several machines, each with its own Queue. Its
// methods must be safe for concurrent use.
type Queue interface {
	// Claim leases a range that no other run holds. The range is at most a fair share and, if
	// possible, at least round positions: those of a chunk for each worker. io.EOF: all
	// positions are committed or held by this run. ErrBusy: ask again later.
	Claim(ctx context.Context, round int64) (Lease, error)
	// Checkpoint records the committed ranges of leases that stay held. Its cost must not
	// depend on the number of chunks. ErrLost: this run no longer holds a lease.
	Checkpoint(ctx context.Context, leases []Lease) error
	// Release releases a lease and records its committed ranges. A *GoneError: the lease was
	// released, without ranges that the server has lost.
	Release(ctx context.Context, l Lease) error
}

// A GoneError, from a Queue, reports ranges that the server confirmed and then lost. A crash
// can cause that if the server confirms commits before they are on disk. The lost ranges are
// free again, and the run goes on with them.
type GoneError struct{ Ranges []chunker.Range }

func (e *GoneError) Error() string {
	var n int64
	for _, x := range e.Ranges {
		n += x.Len()
	}
	return fmt.Sprintf("%d positions that the server had confirmed are gone", n)
}

// An Event reports one confirmed chunk, or a message for the user.
type Event struct {
	Span    chunker.Span
	Outcome Outcome
	Elapsed time.Duration // from the first attempt to the server's confirmation
	// Note, when not empty, is a message for the user; the other fields except Gone are then
	// zero.
	Note string
	// Gone lists ranges of earlier events that the server has lost, with a Note. They are
	// loaded again.
	Gone []chunker.Range
}

// A Result sums up the events of a run.
type Result struct {
	Rows                 int64 // rows confirmed by this run, including AlreadyCommittedRows
	AlreadyCommittedRows int64 // of Rows, those found already committed
	Positions            int64 // rows or bytes of the source for these rows
	Chunks               int64 // chunks confirmed
	Retries              int64 // attempts repeated
	LookUps              int64 // uncertain outcomes looked up
	Halved               int64 // chunks committed in halves because they were too large or too slow
	Rejected             int64 // records recorded as rejects; not in Rows
	Conflicts            int64 // of Rows, those whose key already existed
	Gone                 int64 // rows confirmed and then lost by the server; not in Rows until committed again
	// LookedUp holds the positions decided by look-ups that still have to be settled.
	LookedUp chunker.Ranges
	// RowsPerChunk is the chunk size at the end of the run.
	RowsPerChunk int64
	// Workers is the number of workers on which the run settled.
	Workers  int
	Elapsed  time.Duration // of the whole run
	P50, P99 time.Duration // latency of a chunk, first attempt to confirmation
}

// RowsPerSecond returns the rate of the run; 0 if Elapsed is 0.
func (r Result) RowsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Rows) / r.Elapsed.Seconds()
}
