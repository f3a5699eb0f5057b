package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/failure"
)

// ErrWorking: another run is working on the load.
var ErrWorking = failure.New(failure.Refused, "another run of the load is at work")

// errUnhashed: some committed chunks have no hash, so they cannot be found in another file.
var errUnhashed = failure.New(failure.Refused, "some chunks were recorded without hashes")

// errOpen: only a lookup of the input as it was tells whether some chunks are committed.
var errOpen = failure.New(failure.Refused, "the outcome of some chunks is still to be looked up, which takes the file as it was; resume with that one, and with --max-errors if its bad records are to be set aside")

// Hashed returns the committed chunks of a load, in order. Together they cover all committed
// positions. No run of the load may be at work; Hashed first takes over the leases of dead
// runs, for run by. ledger says that the runs write ledger rows; without them, nothing tells what
// a dead run has committed last. The error is ErrWorking, or says that the outcome of chunks is
// open, or that chunks were recorded without hashes, by an earlier version.
func (r *Registry) Hashed(ctx context.Context, load, by string, ledger bool) ([]loader.HashedRange, error) {
	if err := r.upgrade(ctx); err != nil {
		return nil, err
	}
	if err := r.vacate(ctx, load, by, ledger); err != nil {
		return nil, err
	}
	var list []loader.HashedRange
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		var doubts chunker.Ranges
		var also pgx.Batch
		also.Queue(queryDoubts, load, false).Query(addRanges(&doubts))
		b, err := r.readFor(ctx, tx, load, "", &also)
		if err != nil {
			return err
		}
		if len(b.leases) > 0 {
			return permanentError{ErrWorking}
		}
		if b.open.Len() > 0 || doubts.Len() > 0 {
			return permanentError{errOpen}
		}
		found, err := tx.Query(ctx, `SELECT lo, hi, hash, records FROM loader.ranges WHERE load = $1 ORDER BY lo`, load)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (x loader.HashedRange, err error) {
			err = row.Scan(&x.First, &x.End, &x.Hash, &x.Records)
			return x, err
		})
		if err != nil {
			return err
		}
		// Chunks that a server crash lost may still be recorded, and recorded again with other
		// bounds.
		var covered chunker.Ranges
		end := int64(0)
		for _, x := range all {
			if x.First < end || !b.done.Covers(x.Range) {
				continue
			}
			end = x.End
			covered.Add(x.Range)
			list = append(list, x)
		}
		for _, x := range b.done.All() {
			if !covered.Covers(x) {
				return permanentError{errUnhashed}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the progress of load %s: %w", load, err)
	}
	return list, nil
}

// vacate takes over the leases of dead runs.
func (r *Registry) vacate(ctx context.Context, load, by string, ledger bool) error {
	var leases []lease
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.readState(ctx, tx, load)
		leases = b.leases
		return err
	})
	if err != nil || len(leases) == 0 {
		return err
	}
	dead, err := r.dead(ctx, load, leases)
	for _, run := range dead {
		if err == nil {
			err = r.takeOver(ctx, load, run, by, ledger)
		}
	}
	return err
}

// Records returns the number of records in the committed chunks of a load. It counts only
// chunks that were recorded with hashes.
func (r *Registry) Records(ctx context.Context, load string) (int64, error) {
	var n int64
	err := r.persist(ctx, func(ctx context.Context) error {
		return r.pool.QueryRow(ctx, `SELECT (SELECT COALESCE(sum(records), 0) FROM loader.ranges WHERE load = $1)::INT8 + (SELECT COALESCE(sum(records), 0) FROM loader.ledger WHERE load = $1)::INT8`, load).Scan(&n)
	})
	if err != nil && !r.older.Load() {
		return 0, fmt.Errorf("count the records of load %s: %w", load, err)
	}
	return n, nil
}

// A Moving maps the positions of a load to another input.
type Moving struct {
	// Load is the load's record as read before.
	Load Load
	Spec json.RawMessage
	// Positions is the size of the new input, Done its committed positions, and Hashed its
	// committed chunks.
	Positions int64
	Done      chunker.Ranges
	Hashed    []loader.HashedRange
	// Was holds the former ranges of the chunks in Hashed. Shift holds the distance by which
	// each range has moved.
	Was   []chunker.Range
	Shift []int64
}

// Move replaces the positions of a load. Runs with the old positions get no more leases. The
// load is done if nothing of the new input is left. Move is idempotent.
func (r *Registry) Move(ctx context.Context, m Moving) error {
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, m.Load.ID, nil)
		if err != nil {
			return err
		}
		switch {
		case b.generation == m.Load.Generation+1:
			var spec string
			err := tx.QueryRow(ctx, `SELECT spec FROM loader.loads WHERE id = $1`, m.Load.ID).Scan(&spec)
			if err == nil && spec == string(m.Spec) {
				return nil // an earlier attempt did it
			}
			return errors.Join(permanentError{ErrWorking}, err)
		case b.generation != m.Load.Generation, len(b.leases) > 0, b.state != Loading:
			return permanentError{ErrWorking}
		}
		var lo, hi, records, first, end []int64
		var hashes []string
		for i, x := range m.Hashed {
			lo, hi, hashes, records = append(lo, x.First), append(hi, x.End), append(hashes, x.Hash), append(records, x.Records)
			first, end = append(first, m.Was[i].First), append(end, m.Was[i].End)
		}
		state, finished := Loading, "NULL"
		if m.Done.Covers(chunker.Range{End: m.Positions}) {
			state, finished = Done, "now()"
			lo, hi, hashes, records = nil, nil, nil, nil
		}
		for _, q := range []struct {
			sql  string
			args []any
		}{
			{`UPDATE loader.runs SET fenced = true WHERE load = $1`, nil},
			{`UPDATE loader.loads SET positions = $2, done = $3, spec = $4, state = $5, generation = generation + 1, finished_at = ` + finished + ` WHERE id = $1`,
				[]any{m.Positions, m.Done.String(), string(m.Spec), string(state)}},
			{`DELETE FROM loader.ranges WHERE load = $1`, nil},
			{`INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records
				FROM unnest($2::INT8[], $3::INT8[], $4::TEXT[], $5::INT8[]) AS x (lo, hi, hash, records)`, []any{lo, hi, hashes, records}},
			// Negative positions come in between, so that no new position collides with an old
			// one.
			{`UPDATE loader.rejects SET position = -(position + x.shift) - 1
				FROM unnest($2::INT8[], $3::INT8[], $4::INT8[]) AS x (lo, hi, shift) WHERE load = $1 AND position >= x.lo AND position < x.hi`, []any{first, end, m.Shift}},
			{`UPDATE loader.rejects SET position = -position - 1 WHERE load = $1 AND position < 0`, nil},
		} {
			if _, err := tx.Exec(ctx, q.sql, append([]any{m.Load.ID}, q.args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the mended file of load %s: %w", m.Load.ID, err)
	}
	return nil
}
