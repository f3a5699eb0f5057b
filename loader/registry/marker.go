package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/server"
)

// markers creates the table of markers, on PostgreSQL only. A crash of the server empties it,
// like every UNLOGGED table, and so does the promotion of a standby. No other sign is reliable:
// if one server process is killed, the start time of the server, its identifier and its
// timeline do not show the crash.
const markers = `CREATE UNLOGGED TABLE IF NOT EXISTS loader.markers (
	load TEXT NOT NULL,
	run TEXT NOT NULL,
	lo BIGINT NOT NULL,
	PRIMARY KEY (load, run, lo))`

// markerOfClaim finds the marker of a lease: $1 is the load, $2 the first position, $3 the run.
const markerOfClaim = `SELECT 1 FROM loader.markers m WHERE m.load = $1 AND m.lo = $2 AND m.run = $3`

// forgetMarkers deletes the markers of a load.
const forgetMarkers = `DELETE FROM loader.markers WHERE load = $1`

// wholeLoad is the position in a load's own marker, which belongs to no lease.
const wholeLoad = -1

// ErrEmptied: a server crash has emptied the UNLOGGED table of a load.
var ErrEmptied = fmt.Errorf("%w: a crash of the server emptied its UNLOGGED tables, and the loaded rows are gone", loader.ErrUnconfirmed)

// MakeMarkers creates the table of markers if it is missing. A *server.CreateError says that
// the user may not create it.
func (r *Registry) MakeMarkers(ctx context.Context) error {
	return server.CreateIfMissing(ctx, r.pool, "table", Schema+".markers", markers)
}

// Mark sets a marker of a load. The marker exists until the server crashes.
func (r *Registry) Mark(ctx context.Context, load, marker string) error {
	return r.exec(ctx, `INSERT INTO loader.markers (load, run, lo) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, load, marker, int64(wholeLoad))
}

// CheckMarker returns ErrEmptied when the marker of a load is gone.
func (r *Registry) CheckMarker(ctx context.Context, load, marker string) error {
	err := r.persist(ctx, func(ctx context.Context) error {
		var one int
		err := r.pool.QueryRow(ctx, markerOfClaim, load, int64(wholeLoad), marker).Scan(&one)
		if errors.Is(err, pgx.ErrNoRows) || server.Code(err) == pgerrcode.UndefinedTable {
			return permanentError{ErrEmptied}
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrEmptied) {
		return fmt.Errorf("look for the marker of load %s: %w", load, err)
	}
	return err
}

// mark sets the marker of a lease.
func (q *Queue) mark(ctx context.Context, tx pgx.Tx, first int64) error {
	return server.AtCommit(ctx, tx, nil, `INSERT INTO loader.markers (load, run, lo) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, q.load, q.run, first)
}

// unmark removes the marker of a lease and reports whether it existed.
func (q *Queue) unmark(ctx context.Context, tx pgx.Tx, first int64) (bool, error) {
	tag, err := tx.Exec(ctx, `DELETE FROM loader.markers WHERE load = $1 AND run = $2 AND lo = $3`, q.load, q.run, first)
	return tag.RowsAffected() > 0, err
}
