package commit

import (
	"context"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// Try sends the rows of a chunk by INSERT, in a transaction that is always rolled back, and
// returns how many of them the table took. Constraints are checked, also those that are deferred.
// The connection is closed if the rollback fails. The error is the server's.
func Try(ctx context.Context, conn *pgx.Conn, p server.Product, o Options, chunk *rows.Chunk) (taken int64, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if back := tx.Rollback(ctx); back != nil && !conn.IsClosed() {
			conn.Close(ctx)
		}
	}()
	tag, err := tx.Exec(ctx, compose(o, p).insert, args(server.RepeatedMode(tx.Conn().Config()), chunk)...)
	if err == nil && p == server.PostgreSQL {
		_, err = tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE")
	}
	return tag.RowsAffected(), err
}
