package load

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/indexes"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// An IndexError says that a deferred index could not be made again.
type IndexError = indexes.Error

// RestoreIndexes makes the indexes again that a recorded load has deferred, without what
// it takes to go on with the load. A Load's Run does so at its end; this is for one that
// was cancelled.
func RestoreIndexes(ctx context.Context, srv *server.Server, reg *registry.Registry, rec registry.Load, note func(string)) error {
	r := &record{load: rec.ID, registry: reg}
	if err := r.read(rec.Spec); err != nil {
		return err
	}
	pool, err := restorePool(ctx, srv, r)
	if err != nil {
		return err
	}
	defer server.ClosePool(pool)
	return r.deferral(srv, pool).Restore(ctx, note)
}

// restorePool opens sessions with the settings that the load began with, and without a time
// limit: an index takes its time.
func restorePool(ctx context.Context, srv *server.Server, r *record) (*pgxpool.Pool, error) {
	return srv.Pool(ctx, server.Sessions{Name: "loader", Max: 2, Settings: r.spec.Session})
}
