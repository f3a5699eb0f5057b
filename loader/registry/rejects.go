package registry

import (
	"context"
	"fmt"
	"math"

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

// rejectsAtOnce bounds how many rejects one attempt reads, so that no deadline ends a long list.
const rejectsAtOnce = 1000

// EachReject calls f once with every reject of a load, in the order of the files, also where
// connections break meanwhile. f may keep the reject: its memory is not reused. An error of f
// ends the call and is returned as it is.
func (r *Registry) EachReject(ctx context.Context, id string, f func(rows.Reject) error) error {
	last, n := int64(math.MinInt64), rejectsAtOnce
	var refused error // of f
	for n == rejectsAtOnce {
		err := r.persist(ctx, func(ctx context.Context) error {
			n = 0
			found, err := r.pool.Query(ctx, `SELECT position, file, line, byte, column_name, code, reason, record FROM loader.rejects
				WHERE load = $1 AND position > $2 ORDER BY position LIMIT $3`, id, last, rejectsAtOnce)
			if err != nil {
				return err
			}
			var x rows.Reject
			_, err = pgx.ForEachRow(found, []any{&x.Position, &x.File, &x.Line, &x.Byte, &x.Column, &x.Code, &x.Reason, &x.Record}, func() error {
				refused = f(x)
				x.Record, last = nil, x.Position
				n++
				return refused
			})
			if refused != nil {
				return nil
			}
			return err
		})
		switch {
		case refused != nil:
			return refused
		case r.absent(err):
			return nil
		case err != nil:
			return fmt.Errorf("read the rejects of load %s: %w", id, err)
		}
	}
	return nil
}
