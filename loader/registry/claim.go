package registry

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
)

// A proposal is the error of claim for a range that Fit must cut first. Nothing was recorded,
// and another run may get the range meanwhile.
type proposal struct{ chunker.Range }

func (p proposal) Error() string {
	return fmt.Sprintf("positions %d to %d are to be cut", p.First, p.End-1)
}

// claim makes one attempt. cut is the range that Fit made of the previous proposal. The error is a
// new proposal if the range must be cut. With ErrBusy, claim also returns the dead runs that hold
// leases.
func (q *Queue) claim(ctx context.Context, round int64, cut chunker.Range) (got loader.Lease, dead []string, err error) {
	// One attempt at a time: then an unknown lease of this run can only come from an attempt
	// whose commit was never confirmed, or from a crash that lost the release.
	q.mu.Lock()
	defer q.mu.Unlock()
	var found choice
	err = q.reg.retry(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = q.choose(ctx, tx, round, cut)
		return err
	})
	if err != nil {
		return loader.Lease{}, nil, err
	}
	if found.ask != nil {
		return loader.Lease{}, nil, *found.ask
	}
	if got = found.lease; got.Len() > 0 {
		q.held[got.First], q.entered, q.Free = true, true, found.free
		q.ends[got.First] = got.End
		return got, nil, nil
	}
	if len(found.others) == 0 {
		return loader.Lease{}, nil, io.EOF
	}
	dead, err = q.reg.dead(ctx, q.load, found.others)
	if err != nil {
		return loader.Lease{}, nil, err
	}
	if q.InOrder && q.Waits != nil && len(dead) == 0 {
		q.told.Do(q.Waits)
	}
	return loader.Lease{}, dead, loader.ErrBusy
}

// A choice is the result of one transaction of claim. Without lease and ask, no range is free.
type choice struct {
	lease  loader.Lease    // recorded at the commit
	ask    *proposal       // the free range must be cut first
	others []lease         // of other runs
	free   []chunker.Range // behind the lease
}

// choose takes the first free range, and records its lease at the commit of tx. A range that must
// be cut is proposed instead, unless cut, which Fit made of an earlier proposal, still lies at the
// start of the first gap.
func (q *Queue) choose(ctx context.Context, tx pgx.Tx, round int64, cut chunker.Range) (found choice, err error) {
	var also pgx.Batch
	var doubts chunker.Ranges
	if q.LooksUp {
		also.Queue(queryDoubts, q.load, false).Query(addRanges(&doubts))
	}
	b, err := q.reg.liveStateForUpdate(ctx, tx, q.load, &also)
	if err != nil {
		return found, err
	}
	b.open.AddAll(doubts)
	if b.generation != q.Generation {
		return found, permanentError{fmt.Errorf("%w: its file was corrected, and another run has resumed with it", loader.ErrLost)}
	}
	// 1. The leases of all runs. One that this run does not know of is taken as it is.
	taken := b.done
	for _, c := range b.leases {
		taken.Add(c.Range)
		switch {
		case c.run != q.run:
			found.others = append(found.others, c)
		case c.successor != "":
			return found, permanentError{fmt.Errorf("positions %d to %d: %w", c.First, c.End-1, loader.ErrLost)}
		case !q.held[c.First]:
			found.lease = loader.Lease{Range: c.Range, Done: c.done, Open: within(b.open, c.Range)}
			return found, q.known(ctx, tx, b, &found.lease)
		}
	}
	if q.InOrder && len(found.others) > 0 {
		return found, nil
	}
	// 2. The free ranges.
	free := taken.Gaps(chunker.Range{End: b.positions})
	if len(free) == 0 {
		return found, nil
	}
	if q.InOrder && !isPrefix(taken) {
		return found, permanentError{ErrGaps}
	}
	got := loader.Lease{Range: q.share(b.positions, free, round)}
	switch {
	case q.Fit == nil || got.End == free[0].End: // a gap ends between two records
	case cut.Len() > 0 && cut.First == free[0].First && cut.End <= free[0].End:
		got.Range = cut
	default:
		found.ask = &proposal{got.Range}
		return found, nil
	}
	for first, end := range q.ends {
		if first < got.End && got.First < end {
			return found, permanentError{fmt.Errorf("%w: a crash of the server lost a lease that this run holds (positions %d to %d)", loader.ErrGaveUp, first, end-1)}
		}
	}
	found.free = free
	if free[0].First = got.End; free[0].Len() == 0 {
		found.free = free[1:]
	}
	// 3. The lease.
	got.Open = within(b.open, got.Range)
	found.lease = got
	if err := q.insert(ctx, tx, got.Range); err != nil || !q.Markers {
		return found, err
	}
	return found, q.mark(ctx, tx, got.First)
}

// insert records a lease at the commit of tx, and the run with its first lease. A fenced run gets
// no lease.
func (q *Queue) insert(ctx context.Context, tx pgx.Tx, c chunker.Range) error {
	if !q.entered {
		err := server.AtCommit(ctx, tx, nil, `INSERT INTO loader.runs (load, run, username) VALUES ($1, $2, session_user) ON CONFLICT (load, run) DO NOTHING`, q.load, q.run)
		if err != nil {
			return err
		}
	}
	entered := func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() == 0 {
			return permanentError{loader.ErrLost}
		}
		return nil
	}
	return server.AtCommit(ctx, tx, entered, `INSERT INTO loader.claims (load, lo, hi, run, announced) SELECT $1, $2::INT8, $3::INT8, $4, $5::BOOL
		WHERE NOT EXISTS (SELECT 1 FROM loader.runs WHERE load = $1 AND run = $4 AND fenced)`, q.load, c.First, c.End, q.run, q.Ahead != nil)
}

// isPrefix reports whether in is a prefix of a load's positions, without a gap.
func isPrefix(in chunker.Ranges) bool {
	list := in.All()
	return len(list) == 0 || len(list) == 1 && list[0].First == 0
}

// within returns the part of a set that lies in r.
func within(set chunker.Ranges, r chunker.Range) chunker.Ranges {
	var without, in chunker.Ranges
	for _, gap := range set.Gaps(r) {
		without.Add(gap)
	}
	for _, x := range without.Gaps(r) {
		in.Add(x)
	}
	return in
}

// smallLease is the size below which sharing does not shrink a lease. One run may still have
// this much work at the end while the others are idle.
const smallLease = 1 << 15

// portions is the number of leases into which the free positions are shared. A lease that is
// larger than one run's share of the work keeps the others waiting at the end: with thirds, a
// run that was joined by three others held half of the load.
const portions = 8

// leaseRounds is the number of chunks that each worker finds in a lease, if a third of the free
// positions has that many. Over a slow network a claim and a release take as long as four chunks.
const leaseRounds = 8

// leastRounds is the number of chunks that each worker finds in any lease, if a quarter of all
// positions has that many. With less, the workers of a far server wait for claims at the end.
const leastRounds = 2

// share returns the part of the free positions for the next lease: an eighth of them, but not so
// few that leasing would cost more than sharing gains.
func (q *Queue) share(positions int64, free []chunker.Range, round int64) chunker.Range {
	var left int64
	for _, f := range free {
		left += f.Len()
	}
	minSize := q.MinLease
	if minSize == 0 {
		minSize = min(positions/16, smallLease, leaseRounds*round)
		minSize = max(minSize, min(positions/4, leastRounds*round))
	}
	size := max(left/portions, min(left/3, leaseRounds*round), minSize)
	size = (size + round - 1) / round * round
	if q.MaxLease > 0 {
		size = min(size, q.MaxLease)
	}
	got := free[0]
	got.End = min(got.End, got.First+max(size, round))
	if q.Block > 0 {
		got.End = min(got.End, (got.First/q.Block+1)*q.Block)
	}
	return got
}
