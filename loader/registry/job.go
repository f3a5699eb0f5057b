package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkload/loader"
)

// SetSpec replaces the specification of a load and clears its IMPORT job. It is called before a
// job starts, so that the job can be found again. The error is loader.ErrLost if the run holds
// no lease of the load.
func (r *Registry) SetSpec(ctx context.Context, load, run string, spec json.RawMessage) error {
	return r.ofRun(ctx, load, run, `spec = $3, job = NULL`, string(spec))
}

// ReplaceSpec replaces the specification of a load by spec, but only if it still equals was.
func (r *Registry) ReplaceSpec(ctx context.Context, load string, was, spec json.RawMessage) error {
	if err := r.exec(ctx, `UPDATE loader.loads SET spec = $3 WHERE id = $1 AND spec = $2`, load, string(was), string(spec)); err != nil {
		return fmt.Errorf("record the table of load %s: %w", load, err)
	}
	return nil
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
