package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
)

// claim is a row of loader.claims.
type claim struct {
	chunker.Range
	run       string
	done      chunker.Ranges
	idle      time.Duration // since the last sign of life
	successor string        // who takes it over; empty while its run may work
}

// books is what the registry has of one load.
type books struct {
	state     State
	positions int64
	done      chunker.Ranges // in, and under no claim
	open      chunker.Ranges // what dead runs may have sent without having recorded it
	claims    []claim
}

// read returns the books of a load.
func (r *Registry) read(ctx context.Context, tx pgx.Tx, load string) (books, error) {
	return r.readFor(ctx, tx, load, "")
}

// lock is read such that nobody else can change the books before the transaction ends.
func (r *Registry) lock(ctx context.Context, tx pgx.Tx, load string) (books, error) {
	return r.readFor(ctx, tx, load, ` FOR UPDATE`)
}

// lockLive is lock for a run that goes on with the load: ErrCancelled, where none may.
func (r *Registry) lockLive(ctx context.Context, tx pgx.Tx, load string) (books, error) {
	b, err := r.lock(ctx, tx, load)
	if err == nil && b.state == Cancelled {
		err = ours{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrCancelled, load)}
	}
	return b, err
}

func (r *Registry) readFor(ctx context.Context, tx pgx.Tx, load, purpose string) (books, error) {
	var b books
	var text, open, state string
	openColumn, successor := "open", "COALESCE(successor, '')"
	if r.older.Load() {
		openColumn, successor = "''", "''"
	}
	err := tx.QueryRow(ctx, `SELECT positions, done, `+openColumn+`, state FROM loader.loads WHERE id = $1`+purpose, load).Scan(&b.positions, &text, &open, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return b, ours{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrNoLoad, load)}
	}
	if err != nil {
		return b, err
	}
	b.state = State(state)
	if b.done, err = chunker.ParseRanges(text); err == nil {
		b.open, err = chunker.ParseRanges(open)
	}
	if err != nil {
		return b, ours{fmt.Errorf("load %s: %w", load, err)}
	}
	found, err := tx.Query(ctx, `SELECT lo, hi, run, done, EXTRACT(epoch FROM now() - beat)::FLOAT8, `+successor+` FROM loader.claims WHERE load = $1 ORDER BY lo`, load)
	if err != nil {
		return b, err
	}
	b.claims, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (claim, error) {
		var c claim
		var text string
		var idle float64
		err := row.Scan(&c.First, &c.End, &c.run, &text, &idle, &c.successor)
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

// release moves the claims of a run, and with ledger what the ledger has of them, into
// the load's record. When everything is in, the load is done.
func (r *Registry) release(ctx context.Context, load, run string, list []loader.Claim, ledger bool) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		b, err := r.lockLive(ctx, tx, load)
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
		state, finished, forget := Loading, "", ""
		if open == 0 && done.Covers(chunker.Range{End: b.positions}) {
			// What was decided by looking is settled first.
			forget = `WITH gone AS (DELETE FROM loader.doubts WHERE load = $1 AND NOT looked RETURNING 1) `
			state, finished = Done, `, finished_at = CASE WHEN `+unsettled+` THEN NULL ELSE COALESCE(finished_at, now()) END`
		}
		_, err = tx.Exec(ctx, forget+`UPDATE loader.loads SET done = $2, state = CASE WHEN `+unsettled+` THEN 'loading' ELSE $3 END`+finished+` WHERE id = $1`, load, done.String(), string(state))
		return err
	})
}
