package load

import (
	"context"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// choose sets the way and the carrier, and the plan.
func (l *Load) choose(ctx context.Context, o *dataset.Opening, s Settings) error {
	c, err := l.Dataset.Choose(ctx, o, dataset.Choice{Mode: s.CommitMode, Method: s.Method})
	if err != nil {
		return err
	}
	l.CommitMode, l.Method = c.Mode, c.Method
	return l.plan(ctx, s.Chunk)
}

// plan makes the plan for chunks of the given number of rows; zero is automatic.
func (l *Load) plan(ctx context.Context, chunk int64) error {
	limits := l.limits(ctx)
	if l.srv.Product == server.CockroachDB && l.CommitMode == commit.Transaction {
		limits = limits.Except(server.OnePhase)
	}
	if chunk == 0 && l.tuned.Origin == registry.ByBench {
		chunk = l.tuned.Chunk // measured, so that no advice is above it
	}
	var err error
	if l.Plan, err = chunker.MakePlan(l.rows(), chunk, l.preferred(), l.Dataset.RecordBytes(), l.cost(l.Table.Keys), limits); err != nil {
		return &TableError{Reason: err.Error()}
	}
	l.Dataset.Planned(l.Plan, l.mostRows())
	return nil
}

// rows is the number of rows of the load; of files about how many, or zero.
func (l *Load) rows() int64 { return l.Dataset.Size().Rows }

// preferred returns the rows of a chunk where no limit is near.
func (l *Load) preferred() int64 {
	if l.tuned.Chunk > 0 {
		return l.tuned.Chunk
	}
	return l.Dataset.ChunkRows()
}

// cost returns what a row adds to a chunk, with the given indexes.
func (l *Load) cost(keys keysize.Schema) chunker.Cost {
	return l.Dataset.Cost(keys.Cost(l.Dataset.RowInfo()))
}

// limits reads the server's limits, as far as the user may.
func (l *Load) limits(ctx context.Context) chunker.Limits {
	ctx, cancel := context.WithTimeout(ctx, server.ConnectTimeout)
	defer cancel()
	return server.Limits(ctx, l.pool, l.srv.Info)
}
