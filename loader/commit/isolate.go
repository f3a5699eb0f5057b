package commit

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// fillIsolating writes the chunk's good rows, in parts if the server refuses some, and its
// rejects. All of this happens in the transaction of the ledger row, so that each record
// becomes either a row or a reject, once.
func (c *Committer) fillIsolating(ctx context.Context, tx session, chunk *rows.Chunk, p *progress) error {
	rejects := chunk.Rejects[:len(chunk.Rejects):len(chunk.Rejects)]
	if p.isolate || c.inDoubt(p) {
		if c.product == server.PostgreSQL {
			// A deferred constraint would fail the whole chunk at COMMIT.
			if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
				return err
			}
		}
		x := isolation{Committer: c, tx: tx, chunk: chunk, part: rows.NewChunk(c.Columns), p: p, rejects: rejects}
		if err := x.send(ctx, isolateRows); err != nil {
			return err
		}
		rejects = x.rejects
	} else if err := c.fill(ctx, tx, chunk, p); err != nil {
		return err
	}
	if len(rejects) == 0 {
		return nil
	}
	if c.Tolerate == nil {
		return fmt.Errorf("commit: %d rejects in a load that tolerates none", len(rejects))
	}
	if err := c.Tolerate(chunk.Span, len(rejects)); err != nil {
		return &ToleranceError{err}
	}
	p.out.Rejected = len(rejects)
	for len(rejects) > 0 {
		n, size := 0, 0
		for n < len(rejects) && (n == 0 || size < rejectBytes) {
			size += len(rejects[n].Record) + rejectBytes/1000
			n++
		}
		if err := c.insertRejects(ctx, tx, rejects[:n]); err != nil {
			return err
		}
		rejects = rejects[n:]
	}
	return nil
}

// rejectBytes bounds the records in one INSERT of rejects.
const rejectBytes = 1 << 20

// insertRejects records rejects in the registry.
func (c *Committer) insertRejects(ctx context.Context, tx session, list []rows.Reject) error {
	var positions, lines, bytes []int64
	var files, columns, codes, reasons []string
	var records [][]byte
	for _, r := range list {
		positions, lines, bytes = append(positions, r.Position), append(lines, r.Line), append(bytes, r.Byte)
		files, columns = append(files, r.File), append(columns, clean(r.Column))
		codes, reasons = append(codes, r.Code), append(reasons, clean(r.Reason))
		records = append(records, r.Record)
	}
	_, err := tx.Exec(ctx, c.sql.reject, c.Load, positions, files, lines, bytes, columns, codes, reasons, records)
	return err
}

// Sizes of the parts in which the rows of a chunk with bad rows are sent. Each bad row makes its
// part's other rows be sent again, so a part should hold about as many rows as lie between a few
// bad ones.
const (
	isolateRows    = 1000
	minIsolateRows = 32
	isolateGrowth  = 8
)

// clean returns s as text that the server accepts: valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// unbuffered turns off write buffering for the session's next transactions. A buffered INSERT
// locks each key by a read before COMMIT writes it, which takes longer than to write it at once.
// Bad rows are isolated behind savepoints, which need it: CockroachDB 25.2 to 25.4.3 and 26.1.0
// can lose writes that a gateway buffered before a savepoint, after a duplicate key behind it.
// Without that need, sessions that keep no settings are left as they are.
func (c *Committer) unbuffered(ctx context.Context, conn *pgx.Conn, needed bool) error {
	if !c.buffersWrites {
		return nil
	}
	done := conn.PgConn().CustomData()
	if !needed && (!c.prepares() || done[unbufferedKey] != nil) {
		return nil
	}
	_, err := conn.Exec(ctx, "SET kv_transaction_buffered_writes_enabled = off")
	if err == nil {
		done[unbufferedKey] = true
	}
	return err
}

// unbufferedKey is the CustomData key of a session whose writes are not buffered.
const unbufferedKey = "loader unbuffered"

// An isolation sends the rows of a chunk in parts, each behind a savepoint.
type isolation struct {
	*Committer
	tx      session
	chunk   *rows.Chunk
	part    *rows.Chunk
	p       *progress
	rejects []rows.Reject
	only    bool  // stop at the first bad row
	found   error // why that row is refused

	order      []int // the chunk's rows in the order of sending
	bisectFrom int   // index in order of the first row to be sent singly
}

// The savepoint statements between two parts. A COPY that follows includes them: if many rows are
// bad, round trips dominate the time.
const (
	savepointFirst = "SAVEPOINT loader_rows"
	savepointNext  = "RELEASE SAVEPOINT loader_rows; SAVEPOINT loader_rows"
	savepointBack  = "ROLLBACK TO SAVEPOINT loader_rows"
	savepointEnd   = "RELEASE SAVEPOINT loader_rows"
)

// send writes all rows, in parts of at most maxSize rows. Each row ends in a part that the server
// took, or is rejected with a part that the server refused. The rejected row was alone in its
// part, or COPY named it as the first of its part, or COPY could not read one of its values.
// Parts shrink where rows are bad and grow where rows are good.
func (x *isolation) send(ctx context.Context, maxSize int) error {
	next, err := x.arrange(ctx)
	if err != nil {
		return err
	}
	size := maxSize
	for lo := 0; lo < len(x.order); {
		hi := min(lo+size, x.bisectFrom)
		if lo >= x.bisectFrom {
			hi = lo + 1
		}
		err := x.try(ctx, next, lo, hi)
		if err == nil {
			next = savepointNext
			lo, size = hi, min(2*size, maxSize)
			continue
		}
		if isFinal(err) || !ofRow(server.Classify(err), err) {
			return err
		}
		next = savepointBack
		bad := blamed(err)
		switch {
		case hi-lo == 1:
			bad, size = 0, 1
		case bad < 0 || bad >= hi-lo:
			size = (hi - lo) / 2
			continue
		case bad > 0 && (x.only || !unread(err)):
			size = bad // sends the rows before it, if the server is right
			continue
		default:
			size = min(size, max(isolateGrowth*bad, minIsolateRows))
		}
		x.reject(x.order[lo+bad], err)
		if x.only {
			x.found = err
			return err
		}
		copy(x.order[lo+1:], x.order[lo:lo+bad])
		lo++
	}
	if next == savepointNext {
		next = savepointEnd
	}
	_, err = x.tx.Exec(ctx, next)
	return err
}

// try executes the savepoint statements and sends rows lo up to hi.
func (x *isolation) try(ctx context.Context, savepoint string, lo, hi int) error {
	if x.Method == Copy && x.product == server.PostgreSQL {
		x.p.before = savepoint + "; "
		defer func() { x.p.before = "" }()
	} else if _, err := x.tx.Exec(ctx, savepoint); err != nil {
		return err
	}
	x.chunk.CopyList(x.part, x.order[lo:hi])
	conflicts := x.p.out.Conflicts
	err := x.fill(ctx, x.tx, x.part, x.p)
	if err != nil {
		x.p.out.Conflicts = conflicts
	}
	return err
}

// arrange orders the rows for sending, and returns the savepoint statements to execute first.
// CockroachDB names no row in its errors, but a query finds values that do not fit their
// column's type. These rows come last, one by one: each part that fails after it wrote
// something slows down all later ones.
func (x *isolation) arrange(ctx context.Context) (savepoint string, err error) {
	x.order = make([]int, x.chunk.Len())
	for i := range x.order {
		x.order[i] = i
	}
	x.bisectFrom = len(x.order)
	doubt := x.inDoubt(x.p)
	if x.sql.misfits == "" || x.only && !doubt {
		return savepointFirst, nil
	}
	if _, err := x.tx.Exec(ctx, savepointFirst); err != nil {
		return "", err
	}
	found, err := x.tx.Query(ctx, x.sql.misfits, args(x.repeated, x.chunk)...)
	if err != nil {
		return "", err
	}
	places, err := pgx.CollectRows(found, pgx.RowTo[int64])
	if err != nil {
		if class := server.Classify(err); class == server.Retry || class == server.Uncertain {
			return "", err
		}
		if doubt {
			return "", fmt.Errorf("%w: rows of an earlier attempt cannot be told from bad rows: %s", loader.ErrUnconfirmed, server.Reason(err))
		}
		return savepointBack, nil // the bad rows must be found without a hint
	}
	suspect := make([]bool, len(x.order))
	for _, n := range places {
		suspect[n-1] = true
	}
	x.order = x.order[:0]
	for i, s := range suspect {
		if !s {
			x.order = append(x.order, i)
		}
	}
	if doubt {
		if err := x.dropOwn(ctx); err != nil {
			return "", err
		}
	}
	x.bisectFrom = len(x.order)
	for i, s := range suspect {
		if s {
			x.order = append(x.order, i)
		}
	}
	return savepointBack, nil
}

// inDoubt reports whether a statement may have written rows of the chunk. Its ledger row does not
// tell of them.
func (c *Committer) inDoubt(p *progress) bool { return c.Mode == Statement && p.doubt && c.LooksUp() }

// dropOwn drops the rows from order that the load has written already, by a statement of unknown
// outcome. All of them have values that can be cast.
func (x *isolation) dropOwn(ctx context.Context) error {
	if len(x.order) == 0 {
		return nil
	}
	x.chunk.CopyList(x.part, x.order)
	found, err := x.tx.Query(ctx, x.sql.own, args(x.repeated, x.part)...)
	if err != nil {
		return err
	}
	own, err := pgx.CollectRows(found, pgx.RowTo[bool])
	if err == nil && len(own) != len(x.order) {
		err = fmt.Errorf("the server compared %d rows of %d", len(own), len(x.order))
	}
	if err != nil {
		return err
	}
	x.p.out.LookUps++
	kept := x.order[:0]
	for i, row := range x.order {
		if own[i] {
			x.p.out.LookedUp = true
		} else {
			kept = append(kept, row)
		}
	}
	x.order = kept
	return nil
}

// reject adds row i to the rejects.
func (x *isolation) reject(i int, err error) {
	r := rows.Reject{Column: columnOf(err), Code: server.Code(err), Reason: server.Message(err)}
	if o := x.chunk.Origin; o != nil {
		r.Place = o.Place(i)
		r.Record = append([]byte(nil), o.Record(i)...)
	}
	x.rejects = append(x.rejects, r)
}

// locate returns why the chunk's first bad row is refused, with the row's place, or why the chunk
// was if that row cannot be found. If COPY does not name the row, locate sends the chunk in parts
// in a transaction and rolls it back.
func (c *Committer) locate(ctx context.Context, chunk *rows.Chunk, p *progress, class server.Class, why error) error {
	if !ofRow(class, why) || chunk.Len() == 0 {
		return asFinal(class, why)
	}
	if bad := blamed(why); bad >= 0 && bad < chunk.Len() {
		return &RowError{chunk.Origin.Place(bad), why}
	}
	ctx, cancel := context.WithTimeout(ctx, c.ChunkTimeout)
	defer cancel()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return asFinal(class, why)
	}
	defer conn.Release()
	if err := c.unbuffered(ctx, conn.Conn(), true); err != nil {
		return asFinal(class, why)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return asFinal(class, why)
	}
	defer tx.Rollback(ctx)
	x := isolation{Committer: c, tx: tx, chunk: chunk, part: rows.NewChunk(c.Columns), p: &progress{isolate: true, doubt: p.doubt}, only: true}
	if x.send(ctx, chunk.Len()); x.found == nil {
		return asFinal(class, why)
	}
	// The server may have refused the chunk for a row behind this one.
	return &RowError{x.rejects[0].Place, x.found}
}
