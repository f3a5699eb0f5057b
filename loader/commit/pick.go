package commit

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// secondTime is the SQLSTATE of an INSERT … ON CONFLICT DO UPDATE that meets a key
// twice.
const secondTime = "21000"

// A ToleranceError says that a load has more bad rows than it may have. The chunk that
// it comes from is not in.
type ToleranceError struct{ Err error }

func (e *ToleranceError) Error() string { return e.Err.Error() }
func (e *ToleranceError) Unwrap() error { return e.Err }

// ofRow reports whether an error can be the fault of single rows.
func ofRow(class server.Class, err error) bool {
	if class == server.Data || class == server.Duplicate {
		return true
	}
	switch server.Code(err) {
	case "P0001", "44000", // raised by a trigger; WITH CHECK OPTION
		"42846", "42804": // casts that CockroachDB refuses by value
		return true
	}
	return false
}

// columnPart names the column that an error blames, where it does.
func columnPart(err error) string {
	if name := columnOf(err); name != "" {
		return "column " + name + ": "
	}
	return ""
}

var copyColumn = regexp.MustCompile(`^COPY .*, line \d+, column ("(?:[^"]|"")*"|[^:]+)`)

func columnOf(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return ""
	}
	if pg.ColumnName != "" {
		return pg.ColumnName
	}
	if m := copyColumn.FindStringSubmatch(pg.Where); m != nil {
		return m[1]
	}
	return ""
}

var copyLine = regexp.MustCompile(`^COPY .*?, line (\d+)`)

// blamed returns the row that COPY blames, from 0, or -1.
func blamed(err error) int {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if m := copyLine.FindStringSubmatch(pg.Where); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				return n - 1
			}
		}
	}
	return -1
}

// fillPicking writes the rows of chunk that the server takes, in parts where it
// refuses some, and the rejects beside them: in the transaction of the ledger row, so
// that each record is either a row or a reject, once.
func (c *Committer) fillPicking(ctx context.Context, tx session, chunk *rows.Chunk, p *progress) error {
	rejects := chunk.Rejects[:len(chunk.Rejects):len(chunk.Rejects)]
	if p.pick || p.split {
		if p.pick && c.product == server.PostgreSQL {
			// What is deferred would end the whole chunk at COMMIT.
			if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
				return err
			}
		}
		pick := picking{Committer: c, tx: tx, chunk: chunk, part: rows.NewChunk(c.Columns), p: p, rejects: rejects}
		for lo := 0; lo < chunk.Len(); lo += pickRows {
			if err := pick.send(ctx, lo, min(lo+pickRows, chunk.Len())); err != nil {
				return err
			}
		}
		rejects = pick.rejects
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
	for part := range slices.Chunk(rejects, pickRows) {
		var list pgx.Batch
		for _, r := range part {
			list.Queue(c.sql.reject, c.Load, r.Position, r.File, r.Line, r.Byte, clean(r.Column), r.Code, clean(r.Reason), r.Record)
		}
		if err := connOf(tx).SendBatch(ctx, &list).Close(); err != nil {
			return err
		}
	}
	return nil
}

// pickRows is the number of rows that are sent at a time where some are bad: each bad
// one has those behind it sent again.
const pickRows = 1000

// clean returns text that the server takes as such.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// picking sends the rows of a chunk in parts, each in a savepoint.
type picking struct {
	*Committer
	tx      session
	chunk   *rows.Chunk
	part    *rows.Chunk
	p       *progress
	rejects []rows.Reject
	only    bool // stop with the first bad row: errFound
}

// errFound ends a search for the first bad row.
var errFound = errors.New("found")

// send writes rows lo up to hi.
func (x *picking) send(ctx context.Context, lo, hi int) error {
	if lo >= hi {
		return nil
	}
	if _, err := x.tx.Exec(ctx, "SAVEPOINT loader_rows"); err != nil {
		return err
	}
	x.chunk.CopyRows(x.part, lo, hi)
	before := x.p.out.Conflicts
	err := x.fill(ctx, x.tx, x.part, x.p)
	if err == nil {
		_, err := x.tx.Exec(ctx, "RELEASE SAVEPOINT loader_rows")
		return err
	}
	x.p.out.Conflicts = before
	class := server.Classify(err)
	twice := server.Code(err) == secondTime && hi-lo > 1
	if isFinal(err) || !twice && !ofRow(class, err) {
		return err
	}
	if _, err := x.tx.Exec(ctx, "ROLLBACK TO SAVEPOINT loader_rows"); err != nil {
		return err
	}
	if _, err := x.tx.Exec(ctx, "RELEASE SAVEPOINT loader_rows"); err != nil {
		return err
	}
	if hi-lo == 1 {
		if !x.p.pick {
			return err
		}
		x.reject(lo, err)
		if x.only {
			return errFound
		}
		return nil
	}
	if bad := blamed(err); bad >= 0 && bad < hi-lo && !twice {
		if err := x.send(ctx, lo, lo+bad); err != nil {
			return err
		}
		if err := x.send(ctx, lo+bad, lo+bad+1); err != nil {
			return err
		}
		return x.send(ctx, lo+bad+1, hi)
	}
	middle := lo + (hi-lo)/2
	if err := x.send(ctx, lo, middle); err != nil {
		return err
	}
	return x.send(ctx, middle, hi)
}

// reject puts row i aside.
func (x *picking) reject(i int, err error) {
	r := rows.Reject{Column: columnOf(err), Code: server.Code(err), Reason: server.Message(err)}
	if o := x.chunk.Origin; o != nil {
		r.Place = o.Place(i)
		r.Record = append([]byte(nil), o.Record(i)...)
	}
	x.rejects = append(x.rejects, r)
}

// locate returns why the chunk failed, with the place of its first bad row where that
// can be found out: COPY says it, else the chunk is sent in parts by a transaction that
// is rolled back.
func (c *Committer) locate(ctx context.Context, chunk *rows.Chunk, class server.Class, why error) error {
	if !ofRow(class, why) || chunk.Len() == 0 {
		return asFinal(class, why)
	}
	if bad := blamed(why); bad >= 0 && bad < chunk.Len() {
		return &RowError{chunk.Origin.Place(bad), why}
	}
	ctx, cancel := context.WithTimeout(ctx, c.ChunkTimeout)
	defer cancel()
	tx, err := c.pool.Begin(ctx)
	if err != nil {
		return asFinal(class, why)
	}
	defer tx.Rollback(ctx)
	x := picking{Committer: c, tx: tx, chunk: chunk, part: rows.NewChunk(c.Columns), p: &progress{pick: true}, only: true}
	if err := x.send(ctx, 0, chunk.Len()); !errors.Is(err, errFound) {
		return asFinal(class, why)
	}
	return &RowError{x.rejects[0].Place, why}
}
