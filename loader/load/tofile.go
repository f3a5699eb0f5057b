package load

import (
	"context"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// Rows are generated rows that go to files instead of a server.
type Rows struct {
	dataset.Dataset
	Table *server.Table
	Notes []string
}

// NewRows makes the rows that a new load of a table would have. It writes nothing: it tries the
// first rows in a transaction that it rolls back. The rows need no connection afterwards. The
// errors are those of New.
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
