package server

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Together calls the readers as if one after the other, but the queries that they ask at the
// same time travel in one round trip. Each query is a transaction of its own, so that its error
// is its own reader's alone. A reader runs until it asks, and then another one does: they may
// share variables, but none may rely on the order. Answers are kept in memory, so they must be
// small. db is a pool, a connection, or the Querier of a reader of another Together, whose
// queries then travel along; with any other Querier each query takes its own trip. The error is
// that of the first reader in the list that failed.
func Together(ctx context.Context, db Querier, readers ...func(context.Context, Querier) error) error {
	switch db := db.(type) {
	case *reader:
		return db.of.run(ctx, readers, true)
	case *pgx.Conn:
		return newGathering(db).run(ctx, readers, false)
	case *pgxpool.Pool:
		return togetherOf(ctx, db, readers)
	case TimeoutPool:
		ctx, cancel := db.Deadline(ctx)
		defer cancel()
		return togetherOf(ctx, db.Pool, readers)
	}
	for _, read := range readers {
		if err := read(ctx, db); err != nil {
			return err
		}
	}
	return nil
}

func togetherOf(ctx context.Context, pool *pgxpool.Pool, readers []func(context.Context, Querier) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return newGathering(conn.Conn()).run(ctx, readers, false)
}

// A gathering collects the queries of readers until all of them wait for an answer.
type gathering struct {
	conn *pgx.Conn

	mu      sync.Mutex // held by the reader that runs
	running int        // readers that neither wait nor have returned
	readers int        // readers so far
	asked   []*question
}

func newGathering(conn *pgx.Conn) *gathering { return &gathering{conn: conn} }

// A question is a query of a reader.
type question struct {
	order  int // of its reader
	ctx    context.Context
	sql    string
	args   []any
	answer *answer
	done   chan struct{} // closed with the answer
}

// run runs readers. within says that the caller is itself a reader, which waits for them.
func (g *gathering) run(ctx context.Context, readers []func(context.Context, Querier) error, within bool) error {
	if len(readers) == 0 {
		return nil
	}
	if within {
		g.running--
	} else {
		g.mu.Lock()
	}
	before := g.readers
	g.running += len(readers)
	g.readers += len(readers)
	g.mu.Unlock()
	errs, left := make([]error, len(readers)), len(readers)
	var all sync.WaitGroup
	for i, read := range readers {
		all.Go(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			errs[i] = read(ctx, &reader{g, before + i})
			if left--; left == 0 && within {
				return // the caller runs in its stead
			}
			g.running--
			g.send()
		})
	}
	all.Wait()
	if within {
		g.mu.Lock()
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// send sends the questions if no reader runs any more. The caller holds the lock.
func (g *gathering) send() {
	if g.running > 0 || len(g.asked) == 0 {
		return
	}
	asked := g.asked
	slices.SortFunc(asked, func(a, b *question) int { return a.order - b.order })
	g.asked, g.running = nil, len(asked)
	exchange(g.conn, asked)
	for _, q := range asked {
		close(q.done)
	}
}

// A reader is the Querier of one reader of a gathering.
type reader struct {
	of    *gathering
	order int
}

// Query implements Querier.
func (r *reader) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	g, q := r.of, &question{order: r.order, ctx: ctx, sql: sql, args: args, done: make(chan struct{})}
	g.asked = append(g.asked, q)
	g.running--
	g.send()
	g.mu.Unlock()
	<-q.done
	g.mu.Lock()
	return q.answer, q.answer.err
}

// QueryRow implements Querier.
func (r *reader) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	found, err := r.Query(ctx, sql, args...)
	return firstRow{found, err}
}

// exchange sends questions in one message and waits for their answers. Through a pooler they go
// one after the other: if a client goes away between two answers, pgbouncer 1.18 gives the session
// to the next client, which then reads the answers that are left.
func exchange(conn *pgx.Conn, asked []*question) {
	if _, shared := conn.PgConn().CustomData()[pooledKey]; shared && len(asked) > 1 {
		for _, q := range asked {
			exchange(conn, []*question{q})
		}
		return
	}
	ctx := asked[0].ctx
	ends := make([]func(pgconn.CommandTag, error), len(asked))
	p := conn.PgConn().StartPipeline(ctx)
	for i, q := range asked {
		q.answer = &answer{types: conn.TypeMap()}
		_, ends[i] = tracedQuery(q.ctx, conn, q.sql, q.args)
		var params pgx.ExtendedQueryBuilder
		if q.answer.err = params.Build(conn.TypeMap(), nil, q.args); q.answer.err == nil {
			p.SendQueryParams(q.sql, params.ParamValues, nil, params.ParamFormats, nil)
			p.SendPipelineSync()
		}
	}
	begin := time.Now()
	sent := p.Flush()
	for i, q := range asked {
		if q.answer.err == nil {
			if q.answer.err = sent; sent == nil {
				sent = q.answer.read(p)
			}
			if i == 0 && sent == nil {
				noteTrip(conn, time.Since(begin))
			}
		}
		ends[i](q.answer.tag, q.answer.err)
	}
	p.Close() // if it cannot read to the end, it closes the connection, and the next use fails
	if len(asked) == 1 {
		return
	}
	for _, q := range asked {
		// CockroachDB counts statement_timeout from the arrival of a statement, which here waits
		// for those in front of it. It has the whole time when it is asked alone.
		if Code(q.answer.err) == pgerrcode.QueryCanceled && ctx.Err() == nil {
			exchange(conn, []*question{q})
		}
	}
}

// pooledKey is a CustomData key of connections through a pooler.
const pooledKey = "loader pooled"

// tracedQuery reports a query to the connection's tracer.
func tracedQuery(ctx context.Context, conn *pgx.Conn, sql string, args []any) (context.Context, func(pgconn.CommandTag, error)) {
	t := conn.Config().Tracer
	if t == nil {
		return ctx, func(pgconn.CommandTag, error) {}
	}
	ctx = t.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql, Args: args})
	return ctx, func(tag pgconn.CommandTag, err error) {
		t.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
}

// An answer holds the rows of a query in memory. It implements pgx.Rows.
type answer struct {
	types  *pgtype.Map
	fields []pgconn.FieldDescription
	rows   [][][]byte
	tag    pgconn.CommandTag
	err    error
	next   int // the row that Next moves to
}

var _ pgx.Rows = (*answer)(nil)

// read reads the answer up to its end of transaction. It returns an error if the connection
// failed; the server's own error is in a.err.
func (a *answer) read(p *pgconn.Pipeline) error {
	got, err := p.GetResults()
	if r, ok := got.(*pgconn.ResultReader); ok && err == nil {
		a.fields = append(a.fields, r.FieldDescriptions()...)
		for r.NextRow() {
			row := make([][]byte, len(r.Values()))
			for i, v := range r.Values() {
				if v != nil {
					row[i] = append([]byte{}, v...)
				}
			}
			a.rows = append(a.rows, row)
		}
		a.tag, err = r.Close()
	}
	if err == nil && got == nil {
		err = io.ErrUnexpectedEOF // a session that the server ends does not answer the rest
	}
	if a.err = err; err != nil && Code(err) == "" {
		return err
	}
	for {
		switch got, err := p.GetResults(); {
		case err != nil && Code(err) != "":
			a.err = err // of the end of the query's transaction
		case err != nil || got == nil:
			if err == nil {
				err = io.ErrUnexpectedEOF // a session that the server ends does not answer the rest
			}
			if a.err == nil {
				a.err = err
			}
			return err
		default:
			if _, ok := got.(*pgconn.PipelineSync); ok {
				return nil
			}
		}
	}
}

// Next implements pgx.Rows.
func (a *answer) Next() bool {
	if a.err != nil || a.next >= len(a.rows) {
		return false
	}
	a.next++
	return true
}

// Scan implements pgx.Rows.
func (a *answer) Scan(dest ...any) error {
	if len(dest) == 1 {
		if s, ok := dest[0].(pgx.RowScanner); ok {
			return s.ScanRow(a)
		}
	}
	err := pgx.ScanRow(a.types, a.fields, a.rows[a.next-1], dest...)
	if err != nil {
		a.err = err
	}
	return err
}

// Values implements pgx.Rows.
func (a *answer) Values() ([]any, error) {
	list := make([]any, len(a.fields))
	for i, f := range a.fields {
		raw := a.rows[a.next-1][i]
		if raw == nil {
			continue
		}
		t, ok := a.types.TypeForOID(f.DataTypeOID)
		if !ok {
			list[i] = string(raw)
			continue
		}
		v, err := t.Codec.DecodeValue(a.types, f.DataTypeOID, f.Format, raw)
		if err != nil {
			a.err = err
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// The other methods of pgx.Rows.

func (a *answer) Close()                                       { a.next = len(a.rows) }
func (a *answer) Err() error                                   { return a.err }
func (a *answer) CommandTag() pgconn.CommandTag                { return a.tag }
func (a *answer) FieldDescriptions() []pgconn.FieldDescription { return a.fields }
func (a *answer) RawValues() [][]byte                          { return a.rows[a.next-1] }
func (a *answer) Conn() *pgx.Conn                              { return nil }
func (a *answer) TypeMap() *pgtype.Map                         { return a.types }
