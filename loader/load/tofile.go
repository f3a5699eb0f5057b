package load

import (
	"context"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// Rows are the rows of a load that is not run: they go to files.
type Rows struct {
	dataset.Dataset
	Table *server.Table
	Notes []string
}

// NewRows makes the rows that a new load of a table would have. It writes nothing: what it tries
// is rolled back. It needs no connection afterwards. The errors are those of New.
func NewRows(ctx context.Context, srv *server.Server, req Request) (r *Rows, err error) {
	ctx, done := loader.WithStop(ctx, req.Stop)
	defer done()
	err = takeSteps(ctx, func() *opening { return newOpening(toFile, srv, req) }, func(o *opening) error {
		r = &Rows{o.dataset, o.table, append(o.guesses, o.notes...)}
		server.ClosePool(o.pool)
		return nil
	})
	return r, err
}
