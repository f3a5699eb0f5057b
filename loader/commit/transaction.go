package commit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// errAlready ends a transaction early: the ledger shows that the chunk is committed.
var errAlready = errors.New("already in")

// retriesInside is how often cockroach-go retries a transaction on its connection. After that
// the connection is released, and a new attempt starts.
const retriesInside = 5

// insideWaits are the waits before these retries. The first is longer than between attempts,
// because the transaction met contention. The last is shorter, because the transaction holds
// locks.
var insideWaits = server.RetryPolicy{First: 80 * time.Millisecond, Last: 1280 * time.Millisecond}

// cockroachTransaction makes one attempt with cockroach-go's retry loop, which treats the
// release of the savepoint as the commit. That is correct only on CockroachDB.
func (c *Committer) cockroachTransaction(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, p *progress) error {
	if err := c.unbuffered(ctx, conn, p.isolate); err != nil {
		return err
	}
	waits, tries := insideWaits.Waits(), 0
	err := server.Transact(ctx, server.CockroachDB, conn, retriesInside, func(tx pgx.Tx) error {
		if tries++; tries > 1 {
			// cockroach-go retries at once; under contention that causes a storm.
			p.out.Retries++
			if err := waits.Wait(ctx, nil); err != nil {
				return err
			}
		}
		if c.takesRowsFirst(chunk, p) {
			return c.sendRowsFirst(ctx, tx, chunk, p)
		}
		if c.hasLedger() {
			tag, err := tx.Exec(ctx, c.sql.ledger, c.ledgerArgs(chunk)...)
			if err := c.enter(ctx, tx, chunk.Span, p, tag, err); err != nil {
				return err
			}
		} else if err := server.OpenTx(ctx, tx); err != nil {
			return err // the rows are sent over the connection itself
		}
		return c.fillTransaction(ctx, tx, chunk, p)
	})
	return c.ended(err, p)
}

// postgresTransaction makes one attempt in a fresh transaction and checks the COMMIT, where
// deferred constraints, serialization or the connection may fail.
func (c *Committer) postgresTransaction(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, p *progress) error {
	var err error
	if c.takesAtOnce(chunk, p) {
		err = c.sendAtOnce(ctx, conn, chunk, p)
	} else {
		err = c.sendInTurn(ctx, conn, chunk, p)
	}
	if err != nil {
		if !conn.IsClosed() {
			// Its success does not matter: an open transaction ends with its connection, which
			// the pool then discards.
			conn.Exec(ctx, "ROLLBACK")
		}
		return c.ended(err, p)
	}
	tag, err := conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return err
}

// sendInTurn opens the transaction, with the ledger row in the same round trip, and then sends the
// rows.
func (c *Committer) sendInTurn(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, p *progress) error {
	var begin pgx.Batch
	begin.Queue("BEGIN")
	if c.hasLedger() {
		begin.Queue(c.sql.ledger, c.ledgerArgs(chunk)...)
	}
	results := conn.SendBatch(ctx, &begin)
	tag, err := results.Exec()
	if err == nil && c.hasLedger() {
		tag, err = results.Exec()
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if c.hasLedger() {
		err = c.enter(ctx, conn, chunk.Span, p, tag, err)
	}
	if err != nil {
		return err
	}
	return c.fillTransaction(ctx, conn, chunk, p)
}

// ended turns errAlready into a success.
func (c *Committer) ended(err error, p *progress) error {
	if errors.Is(err, errAlready) {
		p.out.AlreadyCommitted = true
		return nil
	}
	return err
}

// hasLedger reports whether chunks have ledger rows.
func (c *Committer) hasLedger() bool { return c.Load != "" && !c.SkipVerification }

// ledgerArgs returns the parameters of the chunk's ledger row.
func (c *Committer) ledgerArgs(chunk *rows.Chunk) []any {
	return []any{c.Load, chunk.Span.First, chunk.Span.End(), c.Run, hashOf(chunk), chunk.Span.Rows}
}

// hashOf returns the hash of the chunk's input text, so that a load can continue with an edited
// file; empty if there is none.
func hashOf(chunk *rows.Chunk) string {
	if h, ok := chunk.Origin.(rows.Hasher); ok {
		return h.Hash()
	}
	return ""
}

// A session is a transaction, or a connection within a transaction.
type session interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// connOf returns the connection under a session.
func connOf(tx session) *pgx.Conn {
	if t, ok := tx.(pgx.Tx); ok {
		return t.Conn()
	}
	return tx.(*pgx.Conn)
}

// fillTransaction writes the chunk's rows in the transaction of their ledger row.
func (c *Committer) fillTransaction(ctx context.Context, tx session, chunk *rows.Chunk, p *progress) error {
	if p.verify && !c.hasLedger() && !c.SkipVerification {
		// Without a registry an uncertain chunk can only be looked up, which needs rows with
		// their key.
		if c.Redraw != nil || c.Key == "" && len(c.Keys) == 0 || c.Conflict != "" {
			return fmt.Errorf("%w: the reply to a commit was lost, and without a registry nobody can tell whether its rows are loaded", loader.ErrUnconfirmed)
		}
		p.out.LookUps++
		found, err := c.find(ctx, connOf(tx), chunk, nil)
		switch {
		case err != nil:
			return err
		case found.ours == chunk.Len() && found.repeated == 0:
			p.out.LookedUp = c.LooksUp()
			return errAlready
		case found.ours+found.conflicting > 0:
			return &DuplicateError{Key: found.firstConflicting}
		case p.late:
			return slow(chunk.Len(), c.ChunkTimeout)
		}
	}
	p.sent = true
	if p.returning {
		return c.insertOnConflict(ctx, tx, chunk)
	}
	p.out.Rejected, p.out.Conflicts = 0, 0
	if p.isolate || len(chunk.Rejects) > 0 {
		return c.fillIsolating(ctx, tx, chunk, p)
	}
	return c.fill(ctx, tx, chunk, p)
}

// fill writes all rows of chunk.
func (c *Committer) fill(ctx context.Context, tx session, chunk *rows.Chunk, p *progress) error {
	if chunk.Len() == 0 {
		return nil
	}
	want, fresh := int64(chunk.Len()), int64(0)
	if c.updates() {
		// Neither server reports which rows existed before; inside the transaction nobody else
		// changes that.
		if err := tx.QueryRow(ctx, c.sql.present, args(c.repeated, chunk)...).Scan(&want, &fresh); err != nil {
			return err
		}
	}
	n, err := c.send(ctx, connOf(tx), chunk, c.sql.insert, p)
	switch {
	case err != nil:
		return err
	case c.Conflict != "" && !c.updates() && n <= want:
		p.out.Conflicts += chunk.Len() - int(n)
	case n != want:
		return short(n, int(want))
	case c.updates():
		p.out.Conflicts += chunk.Len() - int(fresh)
	}
	return nil
}

func short(got int64, sent int) error {
	return fmt.Errorf("%w: the server took %d of %d rows, and the transaction was rolled back; a trigger or rule may drop the others", loader.ErrUnconfirmed, got, sent)
}

// enter judges the reply to the chunk's ledger row. If the ledger already has a row of at least
// the same range, the chunk is committed. If the run no longer holds the lease, the run must
// stop.
func (c *Committer) enter(ctx context.Context, tx session, span chunker.Span, p *progress, tag pgconn.CommandTag, err error) error {
	if err != nil {
		return err
	}
	if p.verify {
		p.verify = false
		p.out.LookUps++
	}
	if tag.RowsAffected() == 1 {
		if p.late {
			return slow(int(span.Rows), c.ChunkTimeout)
		}
		return nil
	}
	var end int64
	switch err := tx.QueryRow(ctx, c.sql.committedRange, c.Load, span.First).Scan(&end); {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("positions %s: %w", span, loader.ErrLost)
	case err != nil:
		return err
	case end < span.End():
		return fmt.Errorf("%w: the ledger has positions %d to %d of %s", loader.ErrUnconfirmed, span.First, end, span)
	}
	p.out.CommittedRange = chunker.Range{First: span.First, End: end}
	return errAlready
}

// maxRedraws is the maximum number of new keys for one row. If half of all keys are taken, one
// row in 2^64 needs more.
const maxRedraws = 64

// insertOnConflict inserts rows whose keys may belong to other rows. Refused rows get new keys
// in the same transaction, and the registry records these keys.
func (c *Committer) insertOnConflict(ctx context.Context, tx session, chunk *rows.Chunk) error {
	at := c.keyColumn(chunk)
	missing, err := c.insertReturning(ctx, tx, args(c.repeated, chunk), chunk.Col(at).Ints)
	if err != nil {
		return err
	}
	var movedRows, movedKeys []int64
	for attempt := 1; len(missing) > 0; attempt++ {
		if attempt > maxRedraws {
			return &DuplicateError{Key: fmt.Sprintf("%s=%d", c.Key, chunk.Col(at).Ints[missing[0]])}
		}
		part, numbers, err := c.redrawn(chunk, at, missing, attempt)
		if err != nil {
			return &DuplicateError{Err: err}
		}
		still, err := c.insertReturning(ctx, tx, args(c.repeated, part), part.Col(at).Ints)
		if err != nil {
			return err
		}
		var next []int
		for i, key := range part.Col(at).Ints {
			if slices.Contains(still, i) {
				next = append(next, numbers[i])
				continue
			}
			movedRows = append(movedRows, chunk.Row(numbers[i]))
			movedKeys = append(movedKeys, key)
		}
		missing = next
	}
	if len(movedRows) == 0 || c.Load == "" {
		return nil
	}
	_, err = tx.Exec(ctx, c.sql.rekeyed, c.Load, movedRows, movedKeys)
	return err
}

// keyColumn returns the index of the key column, or -1.
func (c *Committer) keyColumn(chunk *rows.Chunk) int {
	for i := range chunk.Width() {
		if chunk.Col(i).Name == c.Key {
			return i
		}
	}
	return -1
}

// insertReturning inserts the rows whose keys are free, and returns the indexes of the missing
// rows.
func (c *Committer) insertReturning(ctx context.Context, tx session, columns []any, keys []int64) ([]int, error) {
	found, err := tx.Query(ctx, c.sql.returning, columns...)
	if err != nil {
		return nil, err
	}
	in, err := pgx.CollectRows(found, pgx.RowTo[int64])
	if err != nil || len(in) == len(keys) {
		return nil, err
	}
	there := make(map[int64]bool, len(in))
	for _, k := range in {
		there[k] = true
	}
	var missing []int
	for i, k := range keys {
		if !there[k] {
			missing = append(missing, i)
		}
		// If two rows of one statement have the same key, the server takes one.
		delete(there, k)
	}
	return missing, nil
}

// redrawn returns the given rows of chunk with new keys, sorted by key, and the index of each
// in chunk.
func (c *Committer) redrawn(chunk *rows.Chunk, at int, which []int, attempt int) (*rows.Chunk, []int, error) {
	keys := make(map[int]int64, len(which))
	for _, i := range which {
		key, err := c.Redraw(chunk.Row(i), attempt)
		if err != nil {
			return nil, nil, err
		}
		keys[i] = key
	}
	order := slices.Clone(which)
	slices.SortFunc(order, func(a, b int) int { return int(keys[a] - keys[b]) })
	part := rows.NewChunk(c.Columns)
	part.Reset(chunk.Span, len(order))
	for i, from := range order {
		for k := range part.Width() {
			to, v := part.Col(k), chunk.Col(k)
			switch {
			case k == at:
				to.Ints[i] = keys[from]
			case v.Kind == rows.Int:
				to.Ints[i] = v.Ints[from]
			case v.Kind == rows.Float:
				to.Floats[i] = v.Floats[from]
			default:
				if b, ok := v.Text(from); ok {
					to.AppendText(b)
				} else {
					to.AppendNull()
				}
			}
		}
	}
	return part, order, nil
}
