package commit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/rows"
)

// takesAtOnce reports whether BEGIN, ledger row and rows of a chunk travel together on
// PostgreSQL. After an uncertain outcome the ledger is read before any row is sent.
func (c *Committer) takesAtOnce(chunk *rows.Chunk, p *progress) bool {
	return c.sendsAhead(chunk, p) && c.Method == Copy
}

// sendAtOnce sends BEGIN, the ledger row and the rows by COPY in one round trip. The ledger row
// is an error if the run lost its lease, or if the ledger has the chunk: the server then drops
// the rows, and the next attempt asks the ledger first. The answer to all three has been read
// when sendAtOnce returns, so that no COMMIT can precede it.
func (c *Committer) sendAtOnce(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, p *progress) error {
	p.sent = true
	p.out.Rejected, p.out.Conflicts = 0, 0
	n, err := c.copyRows(ctx, conn, chunk, "BEGIN; "+withLiterals(c.sql.strictLedger, c.ledgerArgs(chunk))+"; ")
	switch {
	case noLedgerRow(err):
		p.ledgerFirst, p.sent = true, false
		return errRetry{}
	case err != nil:
		return err
	case n != int64(chunk.Len()):
		return short(n, chunk.Len())
	}
	return nil
}

// noLedgerRow reports whether err is that of strictLedger.
func noLedgerRow(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SchemaName == "loader" && pg.TableName == "ledger" &&
		(pg.Code == pgerrcode.NotNullViolation || pg.Code == pgerrcode.UniqueViolation)
}

// withLiterals returns a statement with its parameters in its text: a simple query, which alone
// may hold a COPY and other statements, has none.
func withLiterals(sql string, args []any) string {
	var pairs []string
	for i, arg := range args {
		pairs = append(pairs, fmt.Sprintf("$%d", i+1), literal(fmt.Sprint(arg)))
	}
	return strings.NewReplacer(pairs...).Replace(sql)
}
