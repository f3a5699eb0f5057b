package load

import (
	"context"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/commit"
)

// openSessions begins to open the sessions of the workers to a far server, and to prepare their
// statement, while the next steps and the first lease take their round trips. A worker that finds
// none opens its own, and its error counts.
func (o *opening) openSessions(ctx context.Context) error {
	if o.far() == 0 || o.srv.Pooled() || o.imported != nil || o.choice.Method == Import {
		return nil
	}
	committer, err := commit.New(o.pool, o.srv.Info, o.options())
	if err != nil {
		return &TableError{Reason: err.Error()}
	}
	prepare := func(conn *pgxpool.Conn) {
		defer conn.Release()
		committer.Prepare(ctx, conn.Conn())
	}
	idle := o.pool.AcquireAllIdle(ctx)
	missing := min(o.workers().Start, o.chunks(), int(o.pool.Config().MaxConns)) - int(o.pool.Stat().TotalConns())
	for range missing {
		go func() {
			if conn, err := o.pool.Acquire(ctx); err == nil {
				prepare(conn)
			}
		}()
	}
	if len(idle) == 0 {
		return nil
	}
	for _, conn := range idle[1:] {
		go prepare(conn)
	}
	// The next step gets the session that is left: the new ones must have looked for one before.
	for begin := time.Now(); int(o.pool.Stat().ConstructingConns()) < missing && time.Since(begin) < farTrip; {
		runtime.Gosched()
	}
	idle[0].Release()
	return nil
}

// chunks returns about how many chunks the load has.
func (o *opening) chunks() int {
	size := o.dataset.Size()
	if size.Rows > 0 {
		return int(1 + (size.Rows-1)/max(o.plan.RowsPerChunk, 1))
	}
	return int(1 + size.Positions/max(o.plan.RowsPerChunk*o.dataset.RecordBytes(), 1))
}
