package load

import (
	"context"

	"bulkload/loader/rows"
)

// Rejects returns the number of records of the load that became no row.
func (l *Load) Rejects(ctx context.Context) (int64, error) {
	if l.registry == nil || l.committer == nil || !l.committer.Tolerates() {
		return 0, nil
	}
	return l.registry.CountRejects(ctx, l.ID)
}

// EachReject calls f with each of them, in the order of the input.
func (l *Load) EachReject(ctx context.Context, f func(rows.Reject) error) error {
	return l.registry.EachReject(ctx, l.ID, f)
}
