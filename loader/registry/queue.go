package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
)

// StaleAfter is how long a run that has sessions may leave its claims without a
// sign of life before others end its sessions and take them over. A run that has no
// sessions is taken over at once.
const StaleAfter = 30 * time.Second

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
}

// Queue returns the queue of a run of a load.
func (r *Registry) Queue(load, run string) *Queue {
	return &Queue{reg: r, load: load, run: run, held: map[int64]bool{}}
}

// claim is a row of loader.claims.
type claim struct {
	chunker.Range
	run  string
	done chunker.Ranges
	idle time.Duration // since the last sign of life
}

// ours marks errors of this package that no retry can mend.
type ours struct{ error }

func (e ours) Unwrap() error { return e.error }

func isOurs(err error) bool {
	var o ours
	return errors.As(err, &o)
}

// books is what the registry has of one load.
type books struct {
	positions int64
	done      chunker.Ranges // in, and under no claim
	claims    []claim
}

// read returns the books of a load; with lock, no other run can change them before the
// transaction ends.
func (r *Registry) read(ctx context.Context, tx pgx.Tx, load string, lock bool) (books, error) {
	var b books
	q := `SELECT positions, done, state FROM loader.loads WHERE id = $1`
	if lock {
		q += ` FOR UPDATE`
	}
	var text, state string
	if err := tx.QueryRow(ctx, q, load).Scan(&b.positions, &text, &state); errors.Is(err, pgx.ErrNoRows) {
		return b, ours{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrNoLoad, load)}
	} else if err != nil {
		return b, err
	}
	if lock && State(state) == Cancelled {
		return b, ours{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrCancelled, load)}
	}
	var err error
	if b.done, err = chunker.ParseRanges(text); err != nil {
		return b, ours{fmt.Errorf("load %s: %w", load, err)}
	}
	found, err := tx.Query(ctx, `SELECT lo, hi, run, done, EXTRACT(epoch FROM now() - beat)::FLOAT8 FROM loader.claims WHERE load = $1 ORDER BY lo`, load)
	if err != nil {
		return b, err
	}
	b.claims, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (claim, error) {
		var c claim
		var text string
		var idle float64
		err := row.Scan(&c.First, &c.End, &c.run, &text, &idle)
		if err == nil {
			c.idle = time.Duration(idle * float64(time.Second))
			c.done, err = chunker.ParseRanges(text)
		}
		return c, err
	})
	return b, err
}

// ledger adds to in what the ledger has of the given positions.
func (r *Registry) ledger(ctx context.Context, tx pgx.Tx, load string, within chunker.Range, in *chunker.Ranges) error {
	found, err := tx.Query(ctx, `SELECT lo, hi FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3`, load, within.First, within.End)
	if err != nil {
		return err
	}
	var x chunker.Range
	_, err = pgx.ForEachRow(found, []any{&x.First, &x.End}, func() error { in.Add(x); return nil })
	return err
}

// Claim hands out a part of what nobody holds: a third of it, so that a run that
// joins later finds work too, but at least one chunk. When nothing is free but runs
// that have died hold something, their sessions are ended, what they committed is
// recorded, and their claims are free.
func (q *Queue) Claim(ctx context.Context, chunk int64) (loader.Claim, error) {
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
		b, err := q.reg.read(ctx, tx, q.load, true)
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
				got = loader.Claim{Range: c.Range, Done: c.done}
				return nil
			}
		}
		free := taken.Gaps(chunker.Range{End: b.positions})
		if len(free) == 0 {
			return nil
		}
		got = loader.Claim{Range: q.share(b.positions, free, chunk)}
		if q.Fit != nil {
			if got.Range, err = q.Fit(got.Range); err != nil {
				return ours{err}
			}
			got.End = min(got.End, free[0].End)
		}
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
	return loader.Claim{}, dead, loader.ErrBusy
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

// release moves the claims of a run, and with ledger what the ledger has of them, into
// the load's record. When everything is in, the load is done.
func (r *Registry) release(ctx context.Context, load, run string, list []loader.Claim, ledger bool) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.read(ctx, tx, load, true)
		if err != nil {
			return err
		}
		done, open := b.done, len(b.claims)
		for _, c := range list {
			held := slices.ContainsFunc(b.claims, func(x claim) bool { return x.First == c.First && x.run == run })
			if !held {
				if done.Covers(c.Range) {
					continue // an earlier attempt did it
				}
				return ours{fmt.Errorf("positions %d to %d: %w", c.First, c.End-1, loader.ErrLost)}
			}
			done.AddAll(c.Done)
			if _, err := tx.Exec(ctx, `DELETE FROM loader.claims WHERE load = $1 AND lo = $2 AND run = $3`, load, c.First, run); err != nil {
				return err
			}
			open--
			if !ledger {
				continue
			}
			if err := r.ledger(ctx, tx, load, c.Range, &done); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `DELETE FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3`, load, c.First, c.End); err != nil {
				return err
			}
		}
		state, finished := Loading, ""
		if open == 0 && done.Covers(chunker.Range{End: b.positions}) {
			state, finished = Done, ", finished_at = COALESCE(finished_at, now())"
		}
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET done = $2, state = $3`+finished+` WHERE id = $1`, load, done.String(), string(state))
		return err
	})
}

// dead returns the runs among those that hold claims which can no longer be at work:
// they have no session, or have shown no life for StaleAfter.
func (r *Registry) dead(ctx context.Context, load string, claims []claim) ([]string, error) {
	seen := map[string]bool{}
	var dead []string
	for _, c := range claims {
		if seen[c.run] {
			continue
		}
		seen[c.run] = true
		if c.idle < StaleAfter {
			n, err := r.sessions(ctx, load, c.run)
			if err != nil {
				return nil, err
			}
			if len(n) > 0 {
				continue
			}
		}
		dead = append(dead, c.run)
	}
	return dead, nil
}

// takeOver ends a run from outside: from the first statement on it can commit
// nothing more by the transaction way, since its claims are no longer its own; then
// its sessions are ended, so that nothing of it is still under way; then what it
// committed is read and recorded.
func (r *Registry) takeOver(ctx context.Context, load, run string) error {
	heir := NewID()
	if err := r.exec(ctx, `UPDATE loader.claims SET run = $3, beat = now() WHERE load = $1 AND run = $2`, load, run, heir); err != nil {
		return fmt.Errorf("take over from run %s: %w", run, err)
	}
	if err := r.Fence(ctx, load, run); err != nil {
		return err
	}
	var list []loader.Claim
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		b, err := r.read(ctx, tx, load, false)
		for _, c := range b.claims {
			if c.run == heir {
				list = append(list, loader.Claim{Range: c.Range, Done: c.done})
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take over from run %s: %w", run, err)
	}
	if len(list) == 0 {
		return nil // a third run was faster
	}
	return r.release(ctx, load, heir, list, true)
}

// fenceTimeout bounds the wait for ended sessions to be gone.
const fenceTimeout = 30 * time.Second

// Fence ends every session of a run and waits until the server lists none. What the
// table then holds of the run is final: no statement of it can arrive later.
func (r *Registry) Fence(ctx context.Context, load, run string) error {
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	wait := 5 * time.Millisecond
	for {
		list, err := r.sessions(ctx, load, run)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, s := range list {
			end := `SELECT pg_terminate_backend($1::INT)`
			if r.info.Product == server.CockroachDB {
				end = `CANCEL SESSION IF EXISTS $1`
			}
			if err := r.exec(ctx, end, s); err != nil {
				return fmt.Errorf("end the sessions of run %s: %w", run, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end the sessions of run %s: %d are still there: %w", run, len(list), ctx.Err())
		case <-time.After(wait):
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// sessions returns the sessions of a run: process ids on PostgreSQL, session ids on
// CockroachDB.
func (r *Registry) sessions(ctx context.Context, load, run string) ([]string, error) {
	q := `SELECT pid::TEXT FROM pg_catalog.pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`
	if r.info.Product == server.CockroachDB {
		q = `SELECT session_id FROM [SHOW CLUSTER SESSIONS] WHERE application_name = $1`
	}
	var list []string
	err := r.persist(ctx, func(ctx context.Context) error {
		found, err := r.pool.Query(ctx, q, SessionName(load, run))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the sessions of run %s: %w", run, err)
	}
	return list, nil
}

// Forget removes a load from the registry; its rows stay. Runs that still work on it
// are ended first. ErrDeferred: indexes that it dropped are still to be made again.
func (r *Registry) Forget(ctx context.Context, load string) error {
	if list, err := r.Deferred(ctx, load); err != nil || len(list) > 0 {
		if err == nil {
			err = fmt.Errorf("forget load %s: %w", load, ErrDeferred)
		}
		return err
	}
	var runs []string
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		runs = nil
		b, err := r.read(ctx, tx, load, true)
		for _, c := range b.claims {
			runs = append(runs, c.run)
		}
		if err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM loader.loads WHERE id = $1`,
			`DELETE FROM loader.claims WHERE load = $1`,
		} {
			if _, err := tx.Exec(ctx, q, load); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget load %s: %w", load, err)
	}
	for _, run := range runs {
		if err := r.Fence(ctx, load, run); err != nil {
			return err
		}
	}
	for _, q := range []string{
		`DELETE FROM loader.ledger WHERE load = $1`,
		`DELETE FROM loader.moved WHERE load = $1`,
		`DELETE FROM loader.indexes WHERE load = $1`,
		`DELETE FROM loader.rejects WHERE load = $1`,
	} {
		if err := r.exec(ctx, q, load); err != nil {
			return fmt.Errorf("forget load %s: %w", load, err)
		}
	}
	return nil
}
