package commit

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// traceCopy reports a COPY to the connection's tracer, so that it is echoed like any other
// statement. These COPYs bypass pgx's own, which would report them.
func traceCopy(ctx context.Context, conn *pgx.Conn, sql string) (context.Context, func(pgconn.CommandTag, error)) {
	t := conn.Config().Tracer
	if t == nil {
		return ctx, func(pgconn.CommandTag, error) {}
	}
	ctx = t.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
	return ctx, func(tag pgconn.CommandTag, err error) {
		t.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
}
