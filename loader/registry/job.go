package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// SetSpec replaces the specification of a load and clears its IMPORT job. It is called before a
// job starts, so that the job can be found again. The error is loader.ErrLost if the run holds
// no lease of the load.
func (r *Registry) SetSpec(ctx context.Context, load, run string, spec json.RawMessage) error {
	return r.ofRun(ctx, load, run, `spec = $3, job = NULL`, string(spec))
}

// ReplaceSpec replaces the specification of a load by spec, but only if it still equals was.
func (r *Registry) ReplaceSpec(ctx context.Context, load string, was, spec json.RawMessage) error {
	if err := r.exec(ctx, replaceSpec, load, string(was), string(spec)); err != nil {
		return fmt.Errorf("record the table of load %s: %w", load, err)
	}
	return nil
}

// ErrChanged: another run has changed the specification of a load, or has begun to load rows.
var ErrChanged = failure.New(failure.Refused, "another run has changed the specification of the load")

// BeforeRows replaces the specification of a load without rows by the one that change returns, in
// the transaction of what change does. The error wraps ErrChanged if the specification is not was
// any more, or if a run has begun with the rows: nothing was done then.
func (r *Registry) BeforeRows(ctx context.Context, load string, was json.RawMessage, change func(context.Context, pgx.Tx) (json.RawMessage, error)) error {
	return r.changeSpec(ctx, load, was, func(b *loadState) error {
		if b.done.Len() > 0 || b.open.Len() > 0 || len(b.leases) > 0 {
			return permanentError{ErrChanged}
		}
		return nil
	}, change)
}

// AfterRows is BeforeRows for a load that is done.
func (r *Registry) AfterRows(ctx context.Context, load string, was json.RawMessage, change func(context.Context, pgx.Tx) (json.RawMessage, error)) error {
	return r.changeSpec(ctx, load, was, func(b *loadState) error {
		if b.state != Done {
			return permanentError{ErrChanged}
		}
		return nil
	}, change)
}

// changeSpec implements BeforeRows and AfterRows. check judges the state of the load.
func (r *Registry) changeSpec(ctx context.Context, load string, was json.RawMessage, check func(*loadState) error, change func(context.Context, pgx.Tx) (json.RawMessage, error)) error {
	return r.retry(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The lock of the load keeps out claims, and other changes until the end. CockroachDB takes
		// no TRUNCATE behind a lock, and needs none: its transactions are serializable.
		read := r.liveStateForUpdate
		if r.info.Product == server.CockroachDB {
			read = func(ctx context.Context, tx pgx.Tx, load string, _ *pgx.Batch) (loadState, error) {
				return r.readState(ctx, tx, load)
			}
		}
		b, err := read(ctx, tx, load, nil)
		if err != nil {
			return err
		}
		if b.state == Cancelled {
			return permanentError{fmt.Errorf("%w: %w: %s", loader.ErrLost, ErrCancelled, load)}
		}
		if err := check(&b); err != nil {
			return err
		}
		if r.info.Product == server.PostgreSQL {
			// An attempt whose reply was lost has changed the specification: change would find its
			// own work there.
			if err := swapSpec(ctx, tx, load, was, was); err != nil {
				return err
			}
		}
		spec, err := change(ctx, tx)
		if failure.Of(err) != failure.None {
			return permanentError{err} // a decision, not an attempt that failed
		}
		if err != nil {
			return err
		}
		return swapSpec(ctx, tx, load, was, spec)
	})
}

// replaceSpec replaces a specification that is not changed.
const replaceSpec = `UPDATE loader.loads SET spec = $3 WHERE id = $1 AND spec = $2`

// swapSpec replaces the specification was of a load, or returns ErrChanged.
func swapSpec(ctx context.Context, tx pgx.Tx, load string, was, spec json.RawMessage) error {
	tag, err := tx.Exec(ctx, replaceSpec, load, string(was), string(spec))
	if err == nil && tag.RowsAffected() == 0 {
		return permanentError{ErrChanged}
	}
	return err
}

// SetJob records the IMPORT job that a run started or took over. The error is loader.ErrLost if
// the run holds no lease of the load.
func (r *Registry) SetJob(ctx context.Context, load, run string, job int64) error {
	return r.ofRun(ctx, load, run, `job = $3`, job)
}

// ofRun updates the record of a load if the run still holds a lease of it. It is idempotent.
func (r *Registry) ofRun(ctx context.Context, load, run, set string, arg any) error {
	err := r.persist(ctx, func(ctx context.Context) error {
		tag, err := r.pool.Exec(ctx, `UPDATE loader.loads SET `+set+` WHERE id = $1 AND EXISTS (SELECT 1 FROM loader.claims WHERE load = $1 AND run = $2 AND successor IS NULL)`, load, run, arg)
		if err == nil && tag.RowsAffected() == 0 {
			return permanentError{loader.ErrLost}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("record the job of load %s: %w", load, err)
	}
	return nil
}
