package loader

import (
	"context"
	"errors"
	"time"

	"bulkload/chunker"
)

// refused reduces the size of later chunks after one of n rows was too large for the server or
// too slow.
func (r *run) refused(n int64, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.Halved++
	if errors.Is(why, ErrSlow) {
		r.total.Retries++
	}
	if note := r.tuner.refused(n, why); note != "" {
		r.observe(Event{Note: note})
	}
}

// confirm counts a confirmed span.
func (r *run) confirm(ctx context.Context, l *heldLease, span chunker.Span, n int64, out Outcome, elapsed time.Duration) {
	in := confirmed{Range: span.Range(), rows: n, rejected: int64(out.Rejected), conflicts: int64(out.Conflicts), chunks: 1, hash: out.Hash, records: span.Rows}
	if out.AlreadyCommitted {
		in.already = n
	}
	r.dispatch.confirm(l, in, out.CommittedRange)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(in, 1)
	r.total.Retries += int64(out.Retries)
	r.total.LookUps += int64(out.LookUps)
	r.times.Add(elapsed)
	r.observe(Event{Span: span, Outcome: out, Elapsed: elapsed})
	for _, note := range r.tuner.confirmed(n, elapsed, out) {
		r.observe(Event{Note: note})
	}
	r.startWorkers(ctx)
}

// skip counts a part of a chunk that need not be sent because the whole chunk was committed.
func (r *run) skip(l *heldLease, part chunker.Span) {
	in := confirmed{Range: part.Range(), rows: part.Rows, already: part.Rows}
	r.dispatch.confirm(l, in, chunker.Range{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count(in, 1)
	r.observe(Event{Span: part, Outcome: Outcome{AlreadyCommitted: true}})
}

// count adds confirmed amounts to the total; sign -1 subtracts. The caller holds the lock.
func (r *run) count(in confirmed, sign int64) {
	r.total.Rows += sign * in.rows
	r.total.AlreadyCommittedRows += sign * in.already
	r.total.Rejected += sign * in.rejected
	r.total.Conflicts += sign * in.conflicts
	r.total.Chunks += sign * in.chunks
	r.total.Positions += sign * in.Len()
}

func (r *run) observe(e Event) {
	if r.Observe != nil {
		r.Observe(e)
	}
}

// result returns the total.
func (r *run) result(elapsed time.Duration) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.total
	res.Elapsed, res.RowsPerChunk, res.Workers = elapsed, r.tuner.chunks.size, r.tuner.workers.base
	res.P50, res.P99 = r.times.Quantile(0.50), r.times.Quantile(0.99)
	return res
}
