package registry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
)

// CountRejects returns the number of rejected records of a load.
func (r *Registry) CountRejects(ctx context.Context, id string) (int64, error) {
	var n int64
	err := r.persist(ctx, func(ctx context.Context) error {
		return r.pool.QueryRow(ctx, `SELECT count(*) FROM loader.rejects WHERE load = $1`, id).Scan(&n)
	})
	if err != nil && !r.absent(err) {
		return 0, fmt.Errorf("count the rejects of load %s: %w", id, err)
	}
	return n, nil
}

// EachReject calls f with every reject of a load, in the order of the files. f may keep the
// reject: its memory is not reused.
func (r *Registry) EachReject(ctx context.Context, id string, f func(rows.Reject) error) error {
	var x rows.Reject
	found, err := r.pool.Query(ctx, `SELECT position, file, line, byte, column_name, code, reason, record FROM loader.rejects WHERE load = $1 ORDER BY position`, id)
	if err == nil {
		_, err = pgx.ForEachRow(found, []any{&x.Position, &x.File, &x.Line, &x.Byte, &x.Column, &x.Code, &x.Reason, &x.Record}, func() error {
			err := f(x)
			x.Record = nil
			return err
		})
	}
	if err != nil && !r.absent(err) {
		return fmt.Errorf("read the rejects of load %s: %w", id, err)
	}
	return nil
}
