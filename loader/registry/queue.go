package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
)

// The run asks whether its queue records ranges in doubt, and before they are sent: a method that
// no longer fits must not go unnoticed.
var (
	_ loader.InDoubtQueue    = (*Queue)(nil)
	_ loader.AnnouncingQueue = (*Queue)(nil)
)

// A Queue leases the positions of one load to one run; see loader.Queue. It is safe for
// concurrent use.
type Queue struct {
	reg  *Registry
	load string
	run  string

	hashes map[int64]int // by First of a lease: hashes that checkpoints have recorded

	mu      sync.Mutex
	held    map[int64]bool  // by First: the leases that this run knows of
	ends    map[int64]int64 // by First: the end of each lease
	entered bool            // the run has a row in loader.runs

	// Block, when not zero, keeps leases from crossing its multiples, which bound the blocks of
	// adjacent keys.
	Block int64
	// MaxLease is the maximum size of a lease in positions; zero means no limit. MinLease is
	// the size below which sharing does not shrink a lease; zero means positions/16, at most
	// smallLease and leaseRounds, and at least leastRounds.
	MaxLease, MinLease int64
	// Fit, when not nil, moves the end of a lease to a position where the source can be cut. It
	// may read for long: no transaction is open and no row is locked meanwhile.
	Fit func(chunker.Range) (chunker.Range, error)
	// Free, of a new load, are all of its positions. A run that knows what is free proposes the
	// range of its next lease to Fit before the transaction, which saves two round trips.
	Free []chunker.Range
	// Ledger says that the run writes ledger rows. Then Release and a successor count only
	// ledger rows as committed: a crash of the server can lose commits that it had confirmed to
	// the run, but it loses their ledger rows with them.
	Ledger bool
	// Markers makes a marker for each lease, in a run without ledger rows; see
	// Registry.MakeMarkers. If a crash took the marker, the confirmations that the run received
	// do not count.
	Markers bool
	// Marker is the marker of a load into an UNLOGGED table, or empty. The queue returns
	// ErrEmptied when a crash took the marker.
	Marker string
	// LooksUp says that the contents of the table show whether rows are committed. Leases then
	// list the positions that may have been sent; see loader.Lease.
	LooksUp bool
	// Ahead, when not nil, cuts off the first part of a range that one record of loader.sent
	// covers, and identifies its input bytes by a hash; see Announce. It reads the input.
	Ahead func(chunker.Range) (part chunker.Range, hash string, err error)
	// InOrder says that positions are committed in order: a lease begins at the first position
	// that is not committed, and only one run at a time holds leases. The run must work on its
	// leases in sequence.
	InOrder bool
	// Generation is the load's generation when the run read its record. If the recorded
	// generation differs, the run gets no lease: its positions are outdated.
	Generation int64
	// Waits, when not nil, is called once if InOrder is set and another run is at work.
	Waits func()
	told  sync.Once
}

// Queue returns the queue of one run of a load. Set its fields before use.
func (r *Registry) Queue(load, run string) *Queue {
	return &Queue{reg: r, load: load, run: run, held: map[int64]bool{}, ends: map[int64]int64{}, hashes: map[int64]int{}}
}

// Claim leases an eighth of the free positions, so that runs that join later find work too,
// but at least one round: see loader.Queue. If no position is free and dead runs hold leases,
// Claim takes them over: it ends their sessions, records their commits, and frees their leases.
func (q *Queue) Claim(ctx context.Context, round int64) (loader.Lease, error) {
	if err := q.reg.upgrade(ctx); err != nil {
		return loader.Lease{}, err
	}
	cut, err := q.guess(round)
	if err != nil {
		return loader.Lease{}, err
	}
	for {
		c, dead, err := q.claim(ctx, round, cut)
		var p proposal
		if errors.As(err, &p) {
			if cut, err = q.Fit(p.Range); err != nil {
				return loader.Lease{}, err
			}
			continue
		}
		if !errors.Is(err, loader.ErrBusy) || len(dead) == 0 {
			return c, err
		}
		for _, run := range dead {
			if err := q.reg.takeOver(ctx, q.load, run, q.run, q.Ledger); err != nil {
				return loader.Lease{}, err
			}
		}
	}
}

// guess returns the range of the next lease, as Fit cuts it, if no other run takes leases. It is
// empty if the range need not be cut, or is unknown.
func (q *Queue) guess(round int64) (chunker.Range, error) {
	q.mu.Lock()
	free := q.Free
	q.mu.Unlock()
	if q.Fit == nil || len(free) == 0 {
		return chunker.Range{}, nil
	}
	r := q.share(free[len(free)-1].End, free, round)
	if r.End == free[0].End {
		return chunker.Range{}, nil
	}
	return q.Fit(r)
}

// Announce implements loader.AnnouncingQueue.
func (q *Queue) Announce(ctx context.Context, r chunker.Range) (chunker.Range, error) {
	if q.Ahead == nil {
		return r, nil
	}
	part, hash, err := q.Ahead(r)
	if err != nil {
		return part, err
	}
	err = q.reg.persist(ctx, func(ctx context.Context) error {
		tag, err := q.reg.pool.Exec(ctx, `INSERT INTO loader.sent (load, lo, hi, hash) SELECT $1, $2::INT8, $3::INT8, $5
			WHERE EXISTS (SELECT 1 FROM loader.claims WHERE load = $1 AND run = $4 AND lo <= $2 AND hi >= $3 AND successor IS NULL)
			ON CONFLICT (load, lo, hi) DO UPDATE SET hash = excluded.hash`, q.load, part.First, part.End, q.run, hash)
		if err == nil && tag.RowsAffected() == 0 {
			err = loader.ErrLost
		}
		return err
	})
	if err != nil {
		return part, fmt.Errorf("record that positions %d to %d may be sent: %w", part.First, part.End-1, err)
	}
	return part, nil
}

// keepHashesOfLease records hashes of chunks, if the lease at $2 is still one of run $3.
const keepHashesOfLease = `INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records
	FROM unnest($5::INT8[], $6::INT8[], $7::TEXT[], $8::INT8[]) AS x (lo, hi, hash, records)
	WHERE EXISTS (SELECT 1 FROM loader.claims c WHERE c.load = $1 AND c.lo = $2 AND c.run = $3 AND c.successor IS NULL)
	ON CONFLICT (load, lo) DO UPDATE SET hi = excluded.hi, hash = excluded.hash, records = excluded.records`

// Checkpoint writes the heartbeat of live leases. Without a ledger it also records their
// committed positions, and the hashes that no earlier checkpoint has recorded. It makes one
// attempt.
func (q *Queue) Checkpoint(ctx context.Context, claims []loader.Lease) error {
	ctx, cancel := context.WithTimeout(ctx, q.reg.AttemptTimeout)
	defer cancel()
	for _, c := range claims {
		done, args := "$4", []any{q.load, c.First, q.run, c.Done.String()}
		switch {
		case q.Ledger:
			done, args = "done", args[:3]
		case q.Markers:
			done = "CASE WHEN EXISTS (" + markerOfClaim + ") THEN $4 ELSE done END"
		}
		hashes := ""
		if n := q.hashes[c.First]; !q.Ledger && n < len(c.Hashed) {
			var list hashedRows
			for _, x := range c.Hashed[n:] {
				list.add(x.Range, x)
			}
			hashes, args = "WITH kept AS ("+keepHashesOfLease+" RETURNING 1) ", append(args, list.lo, list.hi, list.hashes, list.records)
		}
		tag, err := q.reg.pool.Exec(ctx, hashes+`UPDATE loader.claims SET done = `+done+`, beat = now() WHERE load = $1 AND lo = $2 AND run = $3 AND successor IS NULL`, args...)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("checkpoint: %w", loader.ErrLost)
		}
		if hashes != "" {
			q.hashes[c.First] = len(c.Hashed)
		}
	}
	if q.Marker != "" {
		return q.reg.CheckMarker(ctx, q.load, q.Marker)
	}
	return nil
}

// Release records the committed positions of a lease and frees the rest. It is idempotent. A
// *loader.GoneError lists positions whose commit was confirmed to the run but lost by the
// server.
func (q *Queue) Release(ctx context.Context, c loader.Lease) error {
	// Lost positions are free as soon as the lease is released. The mutex keeps Claim out until
	// held and ends are updated. Serializing costs nothing: both lock the load's row anyway.
	q.mu.Lock()
	defer q.mu.Unlock()
	var known believe // the ledger
	if !q.Ledger {
		known = q.reported
	}
	err := q.reg.release(ctx, q.load, q.run, []loader.Lease{c}, known)
	var gone *loader.GoneError
	if err != nil && !errors.As(err, &gone) {
		return err
	}
	delete(q.held, c.First)
	delete(q.ends, c.First)
	return err
}

// reported adds the positions whose commits were confirmed to a run without a ledger, unless
// the server crashed since the lease was made.
func (q *Queue) reported(ctx context.Context, tx pgx.Tx, c loader.Lease, in *chunker.Ranges) error {
	if q.Markers {
		if there, err := q.unmark(ctx, tx, c.First); err != nil || !there {
			return err
		}
	}
	in.AddAll(c.Done)
	return nil
}

// known completes a recorded lease of this run that is not in q.held. If the lease was released
// and a crash lost the release, known adds the positions in the ledger.
func (q *Queue) known(ctx context.Context, tx pgx.Tx, b loadState, c *loader.Lease) error {
	if q.Markers {
		c.Open.Add(c.Range)
		return q.mark(ctx, tx, c.First)
	}
	if !q.Ledger {
		return nil
	}
	err := q.reg.ledger(ctx, tx, q.load, c.Range, &c.Done)
	gaps := c.Done.Gaps(c.Range)
	if err != nil || !q.InOrder || len(gaps) == 0 {
		return err
	}
	behind := c.Done.Covers(chunker.Range{First: c.End - 1, End: c.End}) || len(gaps) > 1 ||
		slices.ContainsFunc(b.leases, func(x lease) bool { return x.First > c.First }) ||
		slices.ContainsFunc(b.done.All(), func(x chunker.Range) bool { return x.End > c.End })
	if behind {
		return permanentError{ErrGaps}
	}
	return nil
}
