package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
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
	// smallLease.
	MaxLease, MinLease int64
	// Fit, when not nil, moves the end of a lease to a position where the source can be cut. It
	// may read for long: no transaction is open and no row is locked meanwhile.
	Fit func(chunker.Range) (chunker.Range, error)
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

// Claim leases a third of the free positions, so that a run that joins later finds work too,
// but at least one chunk. If no position is free and dead runs hold leases, Claim takes them
// over: it ends their sessions, records their commits, and frees their leases.
func (q *Queue) Claim(ctx context.Context, chunk int64) (loader.Lease, error) {
	if err := q.reg.upgrade(ctx); err != nil {
		return loader.Lease{}, err
	}
	for cut := (chunker.Range{}); ; {
		c, dead, err := q.claim(ctx, chunk, cut)
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

// A proposal is the error of claim for a range that Fit must cut first. Nothing was recorded,
// and another run may get the range meanwhile.
type proposal struct{ chunker.Range }

func (p proposal) Error() string {
	return fmt.Sprintf("positions %d to %d are to be cut", p.First, p.End-1)
}

// claim makes one attempt. cut is the range that Fit made of the previous proposal. The error is a
// new proposal if the range must be cut. With ErrBusy, claim also returns the dead runs that hold
// leases.
func (q *Queue) claim(ctx context.Context, chunk int64, cut chunker.Range) (got loader.Lease, dead []string, err error) {
	// One attempt at a time: then an unknown lease of this run can only come from an attempt
	// whose commit was never confirmed, or from a crash that lost the release.
	q.mu.Lock()
	defer q.mu.Unlock()
	var found choice
	err = q.reg.retry(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = q.choose(ctx, tx, chunk, cut)
		return err
	})
	if err != nil {
		return loader.Lease{}, nil, err
	}
	if found.ask != nil {
		return loader.Lease{}, nil, *found.ask
	}
	if got = found.lease; got.Len() > 0 {
		q.held[got.First], q.entered = true, true
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
	lease  loader.Lease // recorded at the commit
	ask    *proposal    // the free range must be cut first
	others []lease      // of other runs
}

// choose takes the first free range, and records its lease at the commit of tx. A range that must
// be cut is proposed instead, unless cut, which Fit made of an earlier proposal, still lies at the
// start of the first gap.
func (q *Queue) choose(ctx context.Context, tx pgx.Tx, chunk int64, cut chunker.Range) (found choice, err error) {
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
	got := loader.Lease{Range: q.share(b.positions, free, chunk)}
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

// share returns the part of the free positions for the next lease: a third of them, but not so
// few that leasing would cost more than sharing gains.
func (q *Queue) share(positions int64, free []chunker.Range, chunk int64) chunker.Range {
	var left int64
	for _, f := range free {
		left += f.Len()
	}
	minSize := q.MinLease
	if minSize == 0 {
		minSize = min(positions/16, smallLease)
	}
	size := max(left/3, minSize)
	size = (size + chunk - 1) / chunk * chunk
	if q.MaxLease > 0 {
		size = min(size, q.MaxLease)
	}
	got := free[0]
	got.End = min(got.End, got.First+max(size, chunk))
	if q.Block > 0 {
		got.End = min(got.End, (got.First/q.Block+1)*q.Block)
	}
	return got
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
