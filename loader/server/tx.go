package server

import (
	"context"
	"errors"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Transact runs fn in a transaction of conn and commits it. On CockroachDB, cockroach-go's loop
// retries fn up to retries times; there the release of the savepoint is the commit. On PostgreSQL
// there is one attempt, whose COMMIT is checked. Two round trips are spared: BEGIN travels with the
// first statement, and on CockroachDB COMMIT travels with the release. fn must use only its Tx, from
// one goroutine.
func Transact(ctx context.Context, product Product, conn *pgx.Conn, retries int, fn func(pgx.Tx) error) (err error) {
	tx := &transaction{conn: conn, first: []string{"BEGIN"}}
	if product == CockroachDB {
		var checked error
		err := crdb.ExecuteInTx(crdb.WithMaxRetries(ctx, retries), cockroachTx{tx, &checked}, func() error { return fn(tx) })
		if err == nil {
			err = checked
		}
		return err
	}
	done := false
	defer func() {
		if !done {
			tx.Rollback(ctx)
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	done = true
	return tx.Commit(ctx)
}

// A transaction is a pgx.Tx that delays statements to send them together with others.
type transaction struct {
	conn  *pgx.Conn
	first []string        // sent before the next statement, in its message: BEGIN, SAVEPOINT
	last  []lastStatement // sent before the commit, in its message
	begun bool            // BEGIN may have reached the server
}

// A lastStatement is a statement of AtCommit.
type lastStatement struct {
	sql   string
	args  []any
	check func(pgconn.CommandTag) error
}

// AtCommit adds a statement to the end of tx. It travels in the message of the commit, which the
// server skips if the statement fails. check, when not nil, judges the statement's result; its
// error becomes that of the transaction. The transaction has committed by then, so a statement
// that check does not accept must have changed nothing that matters. A transaction that Transact
// did not make sends the statement at once.
func AtCommit(ctx context.Context, tx pgx.Tx, check func(pgconn.CommandTag) error, sql string, args ...any) error {
	if check == nil {
		check = func(pgconn.CommandTag) error { return nil }
	}
	if t, ok := tx.(*transaction); ok {
		t.last = append(t.last, lastStatement{sql, args, check})
		return nil
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil {
		err = check(tag)
	}
	return err
}

var _ pgx.Tx = (*transaction)(nil)

// queue returns a batch of the statements in first, and their number.
func (t *transaction) queue() (*pgx.Batch, int) {
	b := &pgx.Batch{}
	for _, sql := range t.first {
		b.Queue(sql)
	}
	n := len(t.first)
	t.first, t.begun = nil, true
	return b, n
}

// open sends the statements in first by themselves, before a statement that cannot be batched.
func (t *transaction) open(ctx context.Context) error {
	if len(t.first) == 0 {
		return nil
	}
	b, _ := t.queue()
	return t.conn.SendBatch(ctx, b).Close()
}

// OpenTx sends BEGIN of a transaction of Transact, if it was not sent yet. It is for callers that
// then use the transaction's connection directly.
func OpenTx(ctx context.Context, tx pgx.Tx) error {
	if t, ok := tx.(*transaction); ok {
		return t.open(ctx)
	}
	return nil
}

// hasMode reports whether a statement has an exec mode of its own, which batches do not support.
func hasMode(args []any) bool {
	if len(args) == 0 {
		return false
	}
	_, has := args[0].(pgx.QueryExecMode)
	return has
}

// send sends a statement after those in first, in one message. The caller reads the statement's
// result from the returned results, and closes them.
func (t *transaction) send(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	b, n := t.queue()
	b.Queue(sql, args...)
	results := t.conn.SendBatch(ctx, b)
	for range n {
		if _, err := results.Exec(); err != nil {
			results.Close()
			return nil, err
		}
	}
	return results, nil
}

// Exec implements pgx.Tx.
func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if hasMode(args) {
		if err := t.open(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
	}
	if len(t.first) == 0 {
		return t.conn.Exec(ctx, sql, args...)
	}
	results, err := t.send(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return tag, err
}

// Query implements pgx.Tx.
func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if hasMode(args) {
		if err := t.open(ctx); err != nil {
			return nil, err
		}
	}
	if len(t.first) == 0 {
		return t.conn.Query(ctx, sql, args...)
	}
	results, err := t.send(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	found, err := results.Query()
	if err != nil {
		results.Close()
		return nil, err
	}
	return &batchRows{Rows: found, results: results}, nil
}

// QueryRow implements pgx.Tx.
func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	found, err := t.Query(ctx, sql, args...)
	return firstRow{found, err}
}

// batchRows are the rows of the last statement of a batch, which ends with them.
type batchRows struct {
	pgx.Rows
	results pgx.BatchResults
	closed  bool
	err     error
}

// Next implements pgx.Rows.
func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close implements pgx.Rows.
func (r *batchRows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	r.Rows.Close()
	r.err = r.results.Close()
}

// Err implements pgx.Rows.
func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// A firstRow is the first row of a query, as pgx.Conn.QueryRow gives it.
type firstRow struct {
	found pgx.Rows
	err   error
}

func (r firstRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.found.Close()
	if !r.found.Next() {
		if err := r.found.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.found.Scan(dest...); err != nil {
		return err
	}
	r.found.Close()
	return r.found.Err()
}

// SendBatch implements pgx.Tx.
func (t *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if len(t.first) == 0 {
		return t.conn.SendBatch(ctx, b)
	}
	before, n := t.queue()
	b.QueuedQueries = append(before.QueuedQueries, b.QueuedQueries...)
	results := t.conn.SendBatch(ctx, b)
	for range n {
		if _, err := results.Exec(); err != nil {
			break // each later call returns it
		}
	}
	return results
}

// Commit implements pgx.Tx. The error is pgx.ErrTxCommitRollback if the server rolled back.
func (t *transaction) Commit(ctx context.Context) error {
	if !t.begun && len(t.last) == 0 {
		return nil
	}
	tag, err, checked := t.finish(ctx, "COMMIT")
	switch {
	case err != nil:
		t.Rollback(ctx)
	case tag.String() != "COMMIT":
		err = pgx.ErrTxCommitRollback
	default:
		err = checked
	}
	return err
}

// finish sends the statements in last and then those of sql, the first of which commits. It
// returns the result of the commit, and the first error of a check.
func (t *transaction) finish(ctx context.Context, sql ...string) (tag pgconn.CommandTag, err, checked error) {
	b, n := t.queue()
	last := t.last
	t.last = nil
	for _, s := range last {
		b.Queue(s.sql, s.args...)
	}
	for _, s := range sql {
		b.Queue(s)
	}
	results := t.conn.SendBatch(ctx, b)
	defer results.Close()
	for range n {
		if _, err := results.Exec(); err != nil {
			return tag, err, nil
		}
	}
	for _, s := range last {
		tag, err := results.Exec()
		if err != nil {
			return tag, err, nil
		}
		if err := s.check(tag); err != nil && checked == nil {
			checked = err
		}
	}
	tag, err = results.Exec()
	return tag, err, checked
}

// Rollback implements pgx.Tx. If it fails, it closes the connection, which ends the transaction.
func (t *transaction) Rollback(ctx context.Context) error {
	if !t.begun || t.conn.IsClosed() || t.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	_, err := t.conn.Exec(ctx, "ROLLBACK")
	if err != nil {
		t.conn.Close(ctx)
	}
	return err
}

// Conn implements pgx.Tx.
func (t *transaction) Conn() *pgx.Conn { return t.conn }

// Begin implements pgx.Tx; there is none within another.
func (t *transaction) Begin(context.Context) (pgx.Tx, error) { return nil, errors.ErrUnsupported }

// CopyFrom implements pgx.Tx.
func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if err := t.open(ctx); err != nil {
		return 0, err
	}
	return t.conn.CopyFrom(ctx, table, columns, src)
}

// LargeObjects implements pgx.Tx; there are none.
func (t *transaction) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements pgx.Tx.
func (t *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t.conn.Prepare(ctx, name, sql)
}

// A cockroachTx is a transaction as cockroach-go uses it. It sends SAVEPOINT with the next
// statement, and COMMIT with RELEASE. An error of RELEASE makes the server skip COMMIT.
type cockroachTx struct {
	*transaction
	checked *error // the first error of a check
}

// The statements that cockroach-go sends besides COMMIT and ROLLBACK.
const (
	savepointRestart = "SAVEPOINT cockroach_restart"
	releaseRestart   = "RELEASE SAVEPOINT cockroach_restart"
	rollbackRestart  = "ROLLBACK TO SAVEPOINT cockroach_restart"
)

// Exec implements crdb.Tx.
func (t cockroachTx) Exec(ctx context.Context, sql string, args ...any) error {
	switch {
	case sql == savepointRestart:
		t.first = append(t.first, sql)
		return nil
	case sql == rollbackRestart:
		t.last = nil
		if !t.begun {
			return nil // nothing was sent
		}
		// By itself, as text: pgx drops the prepared form of a statement that failed, but not in a
		// failed transaction. Until then it cannot prepare the statement again.
	case sql == releaseRestart && !t.begun && len(t.last) == 0:
		return nil // nothing was sent
	case sql == releaseRestart:
		// The release commits; the result of COMMIT does not matter.
		_, err, checked := t.finish(ctx, sql, "COMMIT")
		*t.checked = checked
		return err
	}
	_, err := t.transaction.Exec(ctx, sql, args...)
	return err
}

// Commit implements crdb.Tx: COMMIT went with the release.
func (t cockroachTx) Commit(ctx context.Context) error { return t.Rollback(ctx) }
