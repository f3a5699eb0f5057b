package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/failure"
)

// ErrWorking: another run is working on the load.
var ErrWorking = failure.New(failure.Refused, "another run of the load is at work")

// errUnhashed: some committed chunks have no hash, so they cannot be found in another file.
var errUnhashed = failure.New(failure.Refused, "some chunks were recorded without hashes")

// errOpen: whether some chunks are committed can only be looked up with the original input.
var errOpen = failure.New(failure.Refused, "the outcome of some chunks is uncertain, and only the original file decides it; resume with that file, and with --max-errors to set its bad records aside")

// A Standing lists the parts that a changed input must still have for a load to go on with it.
type Standing struct {
	// Parts cover all positions that are committed or may be, in order, without overlap.
	Parts []Part
	// done and open are the positions that the load's record had.
	done, open chunker.Ranges
}

// A Part is a committed chunk, or a range that may have been sent.
type Part struct {
	loader.HashedRange
	// Open says that a look-up must decide which rows of the part are committed.
	Open bool
	// chunks are the committed chunks within an open part.
	chunks []loader.HashedRange
}

// Records returns the number of records in the committed chunks.
func (s *Standing) Records() (n int64) {
	for _, p := range s.Parts {
		n += p.HashedRange.Records
		for _, c := range p.chunks {
			n += c.Records
		}
	}
	return n
}

// Standing returns the Standing of a load. No run of the load may be working; Standing first takes
// over the leases of dead runs, for run by. ledger says that the runs write ledger rows. The error
// is ErrWorking, or says that chunks which are or may be committed were recorded without hashes.
func (r *Registry) Standing(ctx context.Context, load, by string, ledger bool) (Standing, error) {
	var s Standing
	if err := r.upgrade(ctx); err != nil {
		return s, err
	}
	if err := r.vacate(ctx, load, by, ledger); err != nil {
		return s, err
	}
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var doubts chunker.Ranges
		var chunks, sent []loader.HashedRange
		var also pgx.Batch
		also.Queue(queryDoubts, load, false).Query(addRanges(&doubts))
		also.Queue(`SELECT lo, hi, hash, records FROM loader.ranges WHERE load = $1 ORDER BY lo`, load).Query(scanHashed(&chunks))
		also.Queue(`SELECT lo, hi, hash, 0::INT8 FROM loader.sent WHERE load = $1 AND hash <> '' ORDER BY lo, hi DESC`, load).Query(scanHashed(&sent))
		b, err := r.readFor(ctx, tx, load, "", &also)
		if err != nil {
			return err
		}
		if len(b.leases) > 0 {
			return permanentError{ErrWorking}
		}
		s, err = standing(&b, doubts, chunks, sent)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("read the progress of load %s: %w", load, err)
	}
	return s, nil
}

// scanHashed returns a function that appends the rows of a query to list.
func scanHashed(list *[]loader.HashedRange) func(pgx.Rows) error {
	return func(found pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (x loader.HashedRange, err error) {
			err = row.Scan(&x.First, &x.End, &x.Hash, &x.Records)
			return x, err
		})
		return err
	}
}

// standing chooses the parts: sent ranges with positions whose outcome is open, and the
// committed chunks outside of them.
func standing(b *loadState, doubts chunker.Ranges, chunks, sent []loader.HashedRange) (Standing, error) {
	s := Standing{done: b.done, open: b.open}
	var uncertain, needed chunker.Ranges
	for _, set := range []chunker.Ranges{b.open, doubts} {
		for _, x := range set.All() {
			needed.Add(x)
			for _, gap := range b.done.Gaps(x) {
				uncertain.Add(gap)
			}
		}
	}
	needed.AddAll(b.done)
	for _, x := range sent {
		open := within(uncertain, x.Range)
		if n := len(s.Parts); open.Len() > 0 && (n == 0 || x.First >= s.Parts[n-1].End) {
			s.Parts = append(s.Parts, Part{HashedRange: x, Open: true})
		}
	}
	// Chunks that a server crash lost may still be recorded, and recorded again with other
	// bounds.
	opened, end := len(s.Parts), int64(0)
	for _, x := range chunks {
		if x.First < end || !b.done.Covers(x.Range) {
			continue
		}
		i := slices.IndexFunc(s.Parts[:opened], func(p Part) bool { return p.First < x.End && x.First < p.End })
		switch {
		case i < 0:
			s.Parts = append(s.Parts, Part{HashedRange: x})
		case s.Parts[i].First <= x.First && x.End <= s.Parts[i].End:
			s.Parts[i].chunks = append(s.Parts[i].chunks, x)
		default:
			continue
		}
		end = x.End
	}
	slices.SortFunc(s.Parts, func(x, y Part) int { return cmp.Compare(x.First, y.First) })
	var covered chunker.Ranges
	for _, p := range s.Parts {
		covered.Add(p.Range)
	}
	for _, x := range needed.All() {
		gaps := covered.Gaps(x)
		for _, gap := range gaps {
			if in := within(b.done, gap); in.Len() > 0 {
				return s, permanentError{errUnhashed}
			}
		}
		if len(gaps) > 0 {
			return s, permanentError{errOpen}
		}
	}
	return s, nil
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
	// Positions is the size of the new input.
	Positions int64
	// Was is what the old input had, To the new range of each of its parts, and Shift the
	// distance by which the part's bytes have moved.
	Was   Standing
	To    []chunker.Range
	Shift []int64
}

// moved returns the new places of the positions of x.
func (m *Moving) moved(x chunker.Range) (list []chunker.Range) {
	for i, p := range m.Was.Parts {
		y := chunker.Range{First: max(x.First, p.First), End: min(x.End, p.End)}
		if y.Len() <= 0 {
			continue
		}
		to := chunker.Range{First: y.First + m.Shift[i], End: y.End + m.Shift[i]}
		if y.First == p.First {
			to.First = m.To[i].First
		}
		if y.End == p.End {
			to.End = m.To[i].End
		}
		list = append(list, to)
	}
	return list
}

// all returns the new places of a set of positions.
func (m *Moving) all(set chunker.Ranges) (to chunker.Ranges) {
	for _, x := range set.All() {
		for _, y := range m.moved(x) {
			to.Add(y)
		}
	}
	return to
}

// chunks returns the committed chunks at their new places, and the ranges that may have been
// sent.
func (m *Moving) chunks() (in, sent hashedRows) {
	for i, p := range m.Was.Parts {
		list := p.chunks
		if p.Open {
			sent.add(m.To[i], p.HashedRange)
		} else {
			list = []loader.HashedRange{p.HashedRange}
		}
		for _, c := range list {
			for _, to := range m.moved(c.Range) {
				in.add(to, c)
			}
		}
	}
	return in, sent
}

// hashedRows are hashed ranges as columns of a statement.
type hashedRows struct {
	lo, hi, records []int64
	hashes          []string
}

func (h *hashedRows) add(r chunker.Range, x loader.HashedRange) {
	h.lo, h.hi, h.records, h.hashes = append(h.lo, r.First), append(h.hi, r.End), append(h.records, x.Records), append(h.hashes, x.Hash)
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
		case b.generation != m.Load.Generation, len(b.leases) > 0, b.state != Loading,
			b.done.String() != m.Was.done.String(), b.open.String() != m.Was.open.String():
			return permanentError{ErrWorking}
		}
		var first, end []int64
		for _, p := range m.Was.Parts {
			first, end = append(first, p.First), append(end, p.End)
		}
		in, sent := m.chunks()
		done, open := m.all(m.Was.done), m.all(m.Was.open)
		if err := m.moveDoubts(ctx, tx); err != nil {
			return err
		}
		state, finished := Loading, "NULL"
		if done.Covers(chunker.Range{End: m.Positions}) {
			state, finished = Done, "now()"
			in, sent = hashedRows{}, hashedRows{}
		}
		for _, q := range []struct {
			sql  string
			args []any
		}{
			{`UPDATE loader.runs SET fenced = true WHERE load = $1`, nil},
			{`UPDATE loader.loads SET positions = $2, done = $3, open = $4, spec = $5, state = CASE WHEN ` + unsettled + ` THEN 'loading' ELSE $6 END, generation = generation + 1, finished_at = ` + finished + ` WHERE id = $1`,
				[]any{m.Positions, done.String(), open.String(), string(m.Spec), string(state)}},
			{`DELETE FROM loader.ranges WHERE load = $1`, nil},
			{`INSERT INTO loader.ranges (load, lo, hi, hash, records) SELECT $1, lo, hi, hash, records
				FROM unnest($2::INT8[], $3::INT8[], $4::TEXT[], $5::INT8[]) AS x (lo, hi, hash, records)`, []any{in.lo, in.hi, in.hashes, in.records}},
			{`DELETE FROM loader.sent WHERE load = $1`, nil},
			{`INSERT INTO loader.sent (load, lo, hi, hash) SELECT $1, lo, hi, hash
				FROM unnest($2::INT8[], $3::INT8[], $4::TEXT[]) AS x (lo, hi, hash)`, []any{sent.lo, sent.hi, sent.hashes}},
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

// moveDoubts moves the doubtful positions, all of which lie in parts.
func (m *Moving) moveDoubts(ctx context.Context, tx pgx.Tx) error {
	type doubt struct {
		chunker.Range
		looked bool
	}
	found, err := tx.Query(ctx, `SELECT lo, hi, looked FROM loader.doubts WHERE load = $1`, m.Load.ID)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (d doubt, err error) {
		err = row.Scan(&d.First, &d.End, &d.looked)
		return d, err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM loader.doubts WHERE load = $1`, m.Load.ID); err != nil {
		return err
	}
	for _, d := range list {
		for _, to := range m.moved(d.Range) {
			_, err := tx.Exec(ctx, `INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ($1, $2, $3, $4)
				ON CONFLICT (load, lo, hi) DO UPDATE SET looked = loader.doubts.looked OR excluded.looked`, m.Load.ID, to.First, to.End, d.looked)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
