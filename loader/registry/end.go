package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
)

// Cancel ends a load for good: its rows so far stay, no run can go on with it, and those
// that still work on it are ended. A load that is done stays done.
func (r *Registry) Cancel(ctx context.Context, load string) error {
	var runs []string
	err := r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		runs = nil
		b, err := r.read(ctx, tx, load, true)
		if err != nil || b.done.Covers(chunker.Range{End: b.positions}) {
			return err
		}
		done := b.done
		for _, c := range b.claims {
			runs = append(runs, c.run)
			done.AddAll(c.done)
		}
		if err := r.ledger(ctx, tx, load, chunker.Range{End: b.positions}, &done); err != nil {
			return err
		}
		for _, q := range []string{
			`DELETE FROM loader.claims WHERE load = $1`,
			`DELETE FROM loader.ledger WHERE load = $1`,
		} {
			if _, err := tx.Exec(ctx, q, load); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE loader.loads SET state = $2, done = $3 WHERE id = $1`, load, string(Cancelled), done.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("cancel load %s: %w", load, err)
	}
	for _, run := range runs {
		if err := r.Fence(ctx, load, run); err != nil {
			return err
		}
	}
	return nil
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
