package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
)

// A Queue hands out the positions of one load to one run; see loader.Queue. It is
// safe for concurrent use.
type Queue struct {
	reg  *Registry
	load string
	run  string

	mu   sync.Mutex
	held map[int64]bool // by First: the claims that this run knows it has

	// Block, when not zero, keeps claims from crossing its multiples: the blocks
	// of keys that lie together.
	Block int64
	// Most is the most positions of one claim; zero is no limit. Least is the size
	// below which a claim is not made for the sake of sharing; zero is smallClaim.
	Most, Least int64
	// Fit, when not nil, moves the end of a claim to where the source can be cut.
	Fit func(chunker.Range) (chunker.Range, error)
	// Ledger says that the run writes ledger rows, which a claim that is given
	// back leaves behind.
	Ledger bool
	// LooksUp says that what rows hold tells whether they are in: a claim then knows which
	// of its positions may have been sent; see loader.Claim.
	LooksUp bool
	// InOrder says that the load's positions are committed in their order: a claim begins
	// at the first position that is not in, and while another run has one there is none to
	// be had. The run must work on its claims in turn.
	InOrder bool
	// Waits, when not nil, is called once, when with InOrder another run is at work.
	Waits func()
	told  sync.Once
}

// Queue returns the queue of a run of a load.
func (r *Registry) Queue(load, run string) *Queue {
	return &Queue{reg: r, load: load, run: run, held: map[int64]bool{}}
}

// Claim hands out a part of what nobody holds: a third of it, so that a run that
// joins later finds work too, but at least one chunk. When nothing is free but runs
// that have died hold something, their sessions are ended, what they committed is
// recorded, and their claims are free.
func (q *Queue) Claim(ctx context.Context, chunk int64) (loader.Claim, error) {
	if err := q.reg.upgrade(ctx); err != nil {
		return loader.Claim{}, err
	}
	for {
		c, dead, err := q.claim(ctx, chunk)
		if !errors.Is(err, loader.ErrBusy) || len(dead) == 0 {
			return c, err
		}
		for _, run := range dead {
			if err := q.reg.takeOver(ctx, q.load, run); err != nil {
				return loader.Claim{}, err
			}
		}
	}
}

// claim makes one attempt; with ErrBusy it returns the runs that hold something and
// show no life.
func (q *Queue) claim(ctx context.Context, chunk int64) (got loader.Claim, dead []string, err error) {
	// One at a time, so that a claim of this run that it does not know of can
	// only come from an attempt whose commit was confirmed to nobody.
	q.mu.Lock()
	defer q.mu.Unlock()
	var others []claim
	err = q.reg.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		got, others = loader.Claim{}, nil
		b, err := q.reg.lockLive(ctx, tx, q.load)
		if err != nil {
			return err
		}
		taken := b.done
		for _, c := range b.claims {
			taken.Add(c.Range)
			switch {
			case c.run != q.run:
				others = append(others, c)
			case !q.held[c.First]:
				got = loader.Claim{Range: c.Range, Done: c.done, Open: within(b.open, c.Range)}
				return nil
			}
		}
		if q.InOrder && len(others) > 0 {
			return nil
		}
		free := taken.Gaps(chunker.Range{End: b.positions})
		if len(free) == 0 {
			return nil
		}
		if q.InOrder && !isPrefix(taken) {
			return ours{ErrGaps}
		}
		got = loader.Claim{Range: q.share(b.positions, free, chunk)}
		if q.Fit != nil {
			if got.Range, err = q.Fit(got.Range); err != nil {
				return ours{err}
			}
			got.End = min(got.End, free[0].End)
		}
		if q.LooksUp {
			if err := q.reg.doubts(ctx, tx, q.load, false, &b.open); err != nil {
				return err
			}
		}
		got.Open = within(b.open, got.Range)
		_, err = tx.Exec(ctx, `INSERT INTO loader.claims (load, lo, hi, run) VALUES ($1, $2, $3, $4)`, q.load, got.First, got.End, q.run)
		return err
	})
	if err != nil {
		return loader.Claim{}, nil, err
	}
	if got.Len() > 0 {
		q.held[got.First] = true
		return got, nil, nil
	}
	if len(others) == 0 {
		return loader.Claim{}, nil, io.EOF
	}
	dead, err = q.reg.dead(ctx, q.load, others)
	if err != nil {
		return loader.Claim{}, nil, err
	}
	if q.InOrder && q.Waits != nil && len(dead) == 0 {
		q.told.Do(q.Waits)
	}
	return loader.Claim{}, dead, loader.ErrBusy
}

// isPrefix reports whether positions are the first ones of a load, without a gap.
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

// smallClaim is the size below which a claim is not made for the sake of sharing: what
// one run may still do at the end while the others have nothing left.
const smallClaim = 1 << 15

// share returns the part of the free positions that the next claim takes: a third of
// what is left, but not so little that claiming would cost more than it shares.
func (q *Queue) share(positions int64, free []chunker.Range, chunk int64) chunker.Range {
	var left int64
	for _, f := range free {
		left += f.Len()
	}
	least := q.Least
	if least == 0 {
		least = min(positions/16, smallClaim)
	}
	size := max(left/3, least)
	size = (size + chunk - 1) / chunk * chunk
	if q.Most > 0 {
		size = min(size, q.Most)
	}
	got := free[0]
	got.End = min(got.End, got.First+max(size, chunk))
	if q.Block > 0 {
		got.End = min(got.End, (got.First/q.Block+1)*q.Block)
	}
	return got
}

// Checkpoint writes what is in of claims that go on, and a sign of life. It makes one
// attempt.
func (q *Queue) Checkpoint(ctx context.Context, claims []loader.Claim) error {
	ctx, cancel := context.WithTimeout(ctx, q.reg.AttemptTimeout)
	defer cancel()
	for _, c := range claims {
		tag, err := q.reg.pool.Exec(ctx, `UPDATE loader.claims SET done = $4, beat = now() WHERE load = $1 AND lo = $2 AND run = $3`,
			q.load, c.First, q.run, c.Done.String())
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("checkpoint: %w", loader.ErrLost)
		}
	}
	return nil
}

// Release records what is in of a claim and gives the rest back. Done twice it
// changes nothing.
func (q *Queue) Release(ctx context.Context, c loader.Claim) error {
	if err := q.reg.release(ctx, q.load, q.run, []loader.Claim{c}, q.Ledger); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.held, c.First)
	return nil
}
