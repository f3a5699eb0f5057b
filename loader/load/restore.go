package load

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/indexes"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// An IndexError reports that a deferred index could not be created again.
type IndexError = indexes.Error

// RestoreIndexes creates the deferred indexes of a cancelled load again. It needs neither the
// input nor the rest of the load. Load.Run creates them itself at its end.
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

// restorePool opens sessions with the load's recorded settings and without a timeout: creating
// an index may take long.
func restorePool(ctx context.Context, srv *server.Server, r *record) (*pgxpool.Pool, error) {
	return srv.Pool(ctx, server.Sessions{Name: "loader", Max: 2, Settings: r.spec.Session})
}
