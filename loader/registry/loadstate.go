package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/server"
)

// A lease is a row of loader.claims.
type lease struct {
	chunker.Range
	run       string
	done      chunker.Ranges
	idle      time.Duration // since the last heartbeat
	successor string        // the run that takes it over; empty while its own run may work
	announced bool          // its run records each range in loader.sent before it sends it
}

// loadState is the registry's record of one load.
type loadState struct {
	state      State
	positions  int64
	generation int64
	done       chunker.Ranges // committed, outside of leases
	open       chunker.Ranges // positions that dead runs may have sent but did not record
	leases     []lease
}

// readState returns the state of a load.
func (r *Registry) readState(ctx context.Context, tx pgx.Tx, load string) (loadState, error) {
	return r.readFor(ctx, tx, load, "", nil)
}

// stateForUpdate locks the load's row until the transaction ends, and reads its state. It sends
// the statements in also behind that, in the same round trip; also may be nil.
func (r *Registry) stateForUpdate(ctx context.Context, tx pgx.Tx, load string, also *pgx.Batch) (loadState, error) {
	b, err := r.readFor(ctx, tx, load, ` FOR UPDATE`, also)
	// statement_timeout or lock_timeout, or the time for an attempt, ended the wait.
	if code := server.Code(err); code == pgerrcode.QueryCanceled || code == pgerrcode.LockNotAvailable || errors.Is(err, context.DeadlineExceeded) {
		err = lockedError{load, err}
	}
	return b, err
}

// liveStateForUpdate is stateForUpdate for a run that continues the load. It returns
// ErrCancelled if the load was cancelled.
func (r *Registry) liveStateForUpdate(ctx context.Context, tx pgx.Tx, load string, also *pgx.Batch) (loadState, error) {
	b, err := r.stateForUpdate(ctx, tx, load, also)
	if err == nil && b.state == Cancelled {
		err = permanentError{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrCancelled, load)}
	}
	return b, err
}

func (r *Registry) readFor(ctx context.Context, tx pgx.Tx, load, purpose string, also *pgx.Batch) (loadState, error) {
	var b loadState
	openColumn, generation, successor := "open", "generation", "COALESCE(successor, ''), announced"
	if r.older.Load() {
		openColumn, generation, successor = "''", "0", "'', false"
	}
	// Each statement sees what was committed before it, so that the leases are those under the lock.
	var batch pgx.Batch
	batch.Queue(`SELECT positions, done, `+openColumn+`, state, `+generation+` FROM loader.loads WHERE id = $1`+purpose, load).QueryRow(func(row pgx.Row) error {
		return b.scanLoad(row, load)
	})
	batch.Queue(`SELECT lo, hi, run, done, EXTRACT(epoch FROM now() - beat)::FLOAT8, `+successor+` FROM loader.claims WHERE load = $1 ORDER BY lo`, load).Query(func(found pgx.Rows) (err error) {
		b.leases, err = pgx.CollectRows(found, scanLease)
		return err
	})
	if also != nil {
		batch.QueuedQueries = append(batch.QueuedQueries, also.QueuedQueries...)
	}
	err := tx.SendBatch(ctx, &batch).Close()
	return b, err
}

// scanLoad reads the row of a load.
func (b *loadState) scanLoad(row pgx.Row, load string) error {
	var text, open, state string
	err := row.Scan(&b.positions, &text, &open, &state, &b.generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return permanentError{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrNoLoad, load)}
	}
	if err != nil {
		return err
	}
	b.state = State(state)
	if b.done, err = chunker.ParseRanges(text); err == nil {
		b.open, err = chunker.ParseRanges(open)
	}
	if err != nil {
		err = permanentError{fmt.Errorf("load %s: %w", load, err)}
	}
	return err
}

func scanLease(row pgx.CollectableRow) (lease, error) {
	var c lease
	var text string
	var idle float64
	err := row.Scan(&c.First, &c.End, &c.run, &text, &idle, &c.successor, &c.announced)
	if err == nil {
		c.idle = time.Duration(idle * float64(time.Second))
		c.done, err = chunker.ParseRanges(text)
	}
	return c, err
}

// ledger adds the ledger's ranges that begin within the given positions to in.
func (r *Registry) ledger(ctx context.Context, tx pgx.Tx, load string, within chunker.Range, in *chunker.Ranges) error {
	var batch pgx.Batch
	queueLedger(&batch, load, within, in)
	return tx.SendBatch(ctx, &batch).Close()
}

// queueLedger is ledger as a statement of a batch.
func queueLedger(batch *pgx.Batch, load string, within chunker.Range, in *chunker.Ranges) {
	batch.Queue(`SELECT lo, hi FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3`, load, within.First, within.End).Query(addRanges(in))
}

// addRanges returns a function that adds the ranges of a query's rows to in.
func addRanges(in *chunker.Ranges) func(pgx.Rows) error {
	return func(found pgx.Rows) error {
		var x chunker.Range
		_, err := pgx.ForEachRow(found, []any{&x.First, &x.End}, func() error { in.Add(x); return nil })
		return err
	}
}

// A merging moves leases into the record of a load, in a transaction that has locked the load.
type merging struct {
	*loadState
	load  string
	taken int
}

// drop deletes a lease. It must come before the ledger is read: on PostgreSQL it waits for the
// transactions of the lease's chunks, which lock the lease. Afterwards the ledger of the lease
// is final.
func (s *merging) drop(ctx context.Context, tx pgx.Tx, c chunker.Range) error {
	s.taken++
	_, err := tx.Exec(ctx, `DELETE FROM loader.claims WHERE load = $1 AND lo = $2`, s.load, c.First)
	return err
}

// add moves the committed positions of a dropped lease into the record, and deletes its ledger
// rows, if it has any.
func (s *merging) add(ctx context.Context, tx pgx.Tx, c chunker.Range, in chunker.Ranges, ledger bool) error {
	s.done.AddAll(in)
	if !ledger {
		return nil
	}
	return server.AtCommit(ctx, tx, nil, moveHashes, s.load, c.First, c.End)
}

// moveHashes deletes ledger rows and keeps their hashes in loader.ranges.
const moveHashes = `WITH gone AS (DELETE FROM loader.ledger WHERE load = $1 AND lo >= $2 AND lo < $3 RETURNING lo, hi, hash, records)
	INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records FROM gone WHERE hash <> ''
	ON CONFLICT (load, lo) DO UPDATE SET hi = excluded.hi, hash = excluded.hash, records = excluded.records`

// saveHashes records the hashes of chunks that have no ledger row. The last lease needs none.
func (s *merging) saveHashes(ctx context.Context, tx pgx.Tx, list []loader.HashedRange) error {
	if len(list) == 0 || s.done.Covers(chunker.Range{End: s.positions}) {
		return nil
	}
	lo, hi, records, hashes := make([]int64, len(list)), make([]int64, len(list)), make([]int64, len(list)), make([]string, len(list))
	for i, x := range list {
		lo[i], hi[i], records[i], hashes[i] = x.First, x.End, x.Records, x.Hash
	}
	_, err := tx.Exec(ctx, saveHashes, s.load, lo, hi, hashes, records)
	return err
}

// saveHashes is the statement that records hashes of chunks.
const saveHashes = `INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records
	FROM unnest($2::INT8[], $3::INT8[], $4::TEXT[], $5::INT8[]) AS x (lo, hi, hash, records)
	ON CONFLICT (load, lo) DO UPDATE SET hi = excluded.hi, hash = excluded.hash, records = excluded.records`

// write writes the record. The load becomes done if everything is committed and nothing is left
// to settle.
func (s *merging) write(ctx context.Context, tx pgx.Tx) error {
	if s.taken == 0 {
		return nil
	}
	var open chunker.Ranges
	for _, gap := range s.done.Gaps(chunker.Range{End: s.positions}) {
		open.AddAll(within(s.open, gap))
	}
	state, finished, forget := Loading, "", ""
	if s.taken == len(s.leases) && s.done.Covers(chunker.Range{End: s.positions}) {
		// Matches from a lookup must be settled before the load is done.
		forget = `WITH gone AS (DELETE FROM loader.doubts WHERE load = $1 AND NOT looked RETURNING 1), hashes AS (DELETE FROM loader.ranges WHERE load = $1 RETURNING 1), sent AS (DELETE FROM loader.sent WHERE load = $1 RETURNING 1) `
		state, finished = Done, `, finished_at = CASE WHEN `+unsettled+` THEN NULL ELSE COALESCE(finished_at, now()) END`
	}
	return server.AtCommit(ctx, tx, nil, forget+`UPDATE loader.loads SET done = $2, open = $3, state = CASE WHEN `+unsettled+` THEN 'loading' ELSE $4 END`+finished+` WHERE id = $1`,
		s.load, s.done.String(), open.String(), string(state))
}

// A believe adds to in the positions of lease c that the run knows to be committed; in already
// holds those in the lease's record. A nil believe stands for the positions in the ledger.
type believe func(ctx context.Context, tx pgx.Tx, c loader.Lease, in *chunker.Ranges) error

// release moves the committed positions of a run's leases into the load's record. The load
// becomes done if everything is committed. A *loader.GoneError lists positions that were
// confirmed to the run but lost by the server.
func (r *Registry) release(ctx context.Context, load, run string, list []loader.Lease, known believe) error {
	var gone []chunker.Range
	complete := false // an attempt reached its commit
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// As merging.drop, the lease goes before the ledger is read. A lease of another run stays.
		var also pgx.Batch
		ledger := make([]chunker.Ranges, len(list))
		for i, c := range list {
			also.Queue(`DELETE FROM loader.claims WHERE load = $1 AND lo = $2 AND run = $3 AND successor IS NULL`, load, c.First, run)
			if known == nil {
				queueLedger(&also, load, c.Range, &ledger[i])
			}
		}
		b, err := r.liveStateForUpdate(ctx, tx, load, &also)
		if err != nil {
			return err
		}
		s := merging{loadState: &b, load: load}
		was := gone
		gone = nil
		for n, c := range list {
			i := slices.IndexFunc(b.leases, func(x lease) bool { return x.First == c.First && x.run == run && x.successor == "" })
			if i < 0 {
				if complete || s.done.Covers(c.Range) {
					gone = was
					continue // an earlier attempt did it
				}
				return permanentError{fmt.Errorf("positions %d to %d: %w", c.First, c.End-1, loader.ErrLost)}
			}
			s.taken++
			in := b.leases[i].done
			in.AddAll(ledger[n])
			if known != nil {
				if err := known(ctx, tx, c, &in); err != nil {
					return err
				}
			}
			for _, x := range c.Done.All() {
				gone = append(gone, in.Gaps(x)...)
			}
			s.open.AddAll(c.Open)
			if err := s.add(ctx, tx, c.Range, in, known == nil || len(c.Hashed) > 0); err != nil {
				return err
			}
			if b.leases[i].announced && in.Covers(c.Range) {
				if err := server.AtCommit(ctx, tx, nil, `DELETE FROM loader.sent WHERE load = $1 AND lo >= $2 AND hi <= $3`, load, c.First, c.End); err != nil {
					return err
				}
			}
			if err := s.saveHashes(ctx, tx, c.Hashed); err != nil {
				return err
			}
		}
		if known != nil {
			for _, x := range gone {
				// The run has sent these rows, so they may be committed after all.
				err := server.AtCommit(ctx, tx, nil, `INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ($1, $2, $3, false) ON CONFLICT DO NOTHING`, load, x.First, x.End)
				if err != nil {
					return err
				}
			}
		}
		err = s.write(ctx, tx)
		complete = err == nil
		return err
	})
	if err == nil && len(gone) > 0 {
		err = &loader.GoneError{Ranges: gone}
	}
	return err
}
