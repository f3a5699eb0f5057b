package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/failure"
)

// ErrWorking: another run works on the load.
var ErrWorking = failure.New(failure.Refused, "another run of the load is at work")

// errUnhashed: what is in of a load cannot be found again in another file.
var errUnhashed = failure.New(failure.Refused, "not all of what is in was recorded with hashes of its bytes")

// A HashedRange is a chunk that is in, with the hash of the bytes that it was read from, and
// their number of records.
type HashedRange struct {
	chunker.Range
	Hash    string
	Records int64
}

// Hashed returns the chunks that are in of a load, in order; they cover all that is in. No run
// of the load may be at work: what dead runs held is recorded first, by run by. The error is
// ErrWorking, or says that the chunks were recorded without hashes: by an earlier version, or by
// a commit mode that has none.
func (r *Registry) Hashed(ctx context.Context, load, by string) ([]HashedRange, error) {
	if err := r.upgrade(ctx); err != nil {
		return nil, err
	}
	if err := r.vacate(ctx, load, by); err != nil {
		return nil, err
	}
	var list []HashedRange
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		b, err := r.readState(ctx, tx, load)
		if err != nil {
			return err
		}
		var doubts chunker.Ranges
		if err := r.doubts(ctx, tx, load, false, &doubts); err != nil {
			return err
		}
		if len(b.leases) > 0 {
			return permanentError{ErrWorking}
		}
		found, err := tx.Query(ctx, `SELECT lo, hi, hash, records FROM loader.ranges WHERE load = $1 ORDER BY lo`, load)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (x HashedRange, err error) {
			err = row.Scan(&x.First, &x.End, &x.Hash, &x.Records)
			return x, err
		})
		if err != nil {
			return err
		}
		// What a crash of the server took may be recorded still, and again in other pieces.
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
		if b.open.Len() > 0 || doubts.Len() > 0 {
			return permanentError{errUnhashed}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what is in of load %s: %w", load, err)
	}
	return list, nil
}

// vacate takes over the leases of dead runs.
func (r *Registry) vacate(ctx context.Context, load, by string) error {
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
			err = r.takeOver(ctx, load, run, by, true)
		}
	}
	return err
}

// Records returns how many records the chunks of a load hold that are in, as far as they were
// recorded with hashes.
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

// A Moving says what the positions of a load are in another input.
type Moving struct {
	// Load is the record as it was read.
	Load Load
	Spec json.RawMessage
	// Positions is the size of the new input, Done what is in of it, and Hashed its chunks.
	Positions int64
	Done      chunker.Ranges
	Hashed    []HashedRange
	// Was are the ranges that the chunks of Hashed had, and Shift is by how much what lies in
	// each has moved.
	Was   []chunker.Range
	Shift []int64
}

// Move gives a load other positions. Runs that know the old ones can claim no more. The load is
// done if nothing of the new input is left. Done twice it changes nothing.
func (r *Registry) Move(ctx context.Context, m Moving) error {
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.stateForUpdate(ctx, tx, m.Load.ID)
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
			// By way of negative positions, so that none meets another on its way.
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
