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

// statements are the SQL texts of a committer, composed once.
type statements struct {
	insert         string // all rows of a chunk
	fill           string // insert, without rows whose key exists
	returning      string // fill, and returns the keys of the inserted rows
	copy           string
	raw            string // COPY of a chunk's raw text; empty if raw text cannot be sent
	lookup         string // fetches rows by key
	states         string // compares each row of text with the table
	look           string // compares rows of text, and finds out who wrote them
	own            string // tells of each row of text whether the load wrote it
	keys           string // identifies the keys of rows of text
	present        string // counts the keys of rows of text, and the free ones
	misfits        string // finds rows of text with values of another type; CockroachDB only
	ledger         string
	strictLedger   string // ledger, but an error where it writes no row; see sendAtOnce
	committedRange string
	reject         string
	rekeyed        string
}

// compose writes the statements for a table.
func compose(o Options, product server.Product) statements {
	table, columns := o.Table.Sanitize(), list(o.Columns)
	key := pgx.Identifier{o.Key}.Sanitize()
	insert := fmt.Sprintf("INSERT INTO %s (%s) SELECT * FROM %s", table, columns, o.unnest())
	if o.fromText() {
		insert, key = o.insertText(), list(columnsNamed(o.Keys))
	}
	fill := insert + fmt.Sprintf(" ON CONFLICT (%s) DO NOTHING", key)
	switch o.Conflict {
	case SkipRow:
		insert = fill
	case UpdateRow:
		insert += o.onConflictUpdate()
	}
	format := " (FORMAT binary)"
	if o.TextCopy {
		format = ""
	}
	hold := ""
	if product == server.PostgreSQL {
		// A lease must not be deleted before the transactions of its chunks have ended. Then a
		// reader of the ledger sees all their rows, and no more rows come later. The lock does
		// not conflict with checkpoints. CockroachDB's transactions are serializable and need
		// no lock.
		hold = " FOR KEY SHARE"
	}
	lease := `SELECT load FROM loader.claims WHERE load = $1 AND run = $4 AND lo <= $2::INT8 AND hi >= $3::INT8 AND successor IS NULL` + hold
	s := statements{
		insert: insert,
		// ON CONFLICT names the key: without a target, a row that another unique index refuses
		// would vanish silently.
		fill:      fill,
		returning: insert + fmt.Sprintf(" ON CONFLICT (%s) DO NOTHING RETURNING %s", key, key),
		copy:      fmt.Sprintf("COPY %s (%s) FROM STDIN%s", table, columns, format),
		lookup:    fmt.Sprintf("SELECT %s FROM %s WHERE %s = ANY($1::INT8[])", columns, table, key),
		// A run that lost its lease writes no ledger row, and therefore no rows.
		ledger: `INSERT INTO loader.ledger (load, lo, hi, hash, records) SELECT $1, $2::INT8, $3::INT8, $5::TEXT, $6::INT8 WHERE EXISTS (` + lease + `)
			ON CONFLICT (load, lo) DO NOTHING`,
		strictLedger: `INSERT INTO loader.ledger (load, lo, hi, hash, records) VALUES ((` + lease + `), $2::INT8, $3::INT8, $5::TEXT, $6::INT8)`,
		reject: `INSERT INTO loader.rejects (load, position, file, line, byte, column_name, code, reason, record)
			SELECT $1, * FROM unnest($2::INT8[], $3::TEXT[], $4::INT8[], $5::INT8[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::BYTEA[]) AS r
			ON CONFLICT (load, position) DO NOTHING`,
		committedRange: `SELECT hi FROM loader.ledger WHERE load = $1 AND lo = $2`,
		rekeyed: `INSERT INTO loader.moved (load, row_number, id) SELECT $1, m, i FROM unnest($2::INT8[], $3::INT8[]) AS t (m, i)
			ON CONFLICT (load, row_number) DO NOTHING`,
	}
	if d := o.Dialect; d != nil && o.Method == Copy && product == server.PostgreSQL && d.Quote != 0 {
		escape := d.Escape
		if escape == 0 {
			escape = d.Quote
		}
		s.raw = fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT csv, DELIMITER %s, QUOTE %s, ESCAPE %s, NULL %s)",
			table, columns, literal(string(d.Delimiter)), literal(string(d.Quote)), literal(string(escape)), literal(d.Null))
	}
	if o.fromText() && product == server.CockroachDB {
		s.misfits = o.misfitsText()
	}
	if o.fromText() && len(o.Keys) > 0 {
		s.states = o.statesText(product)
		s.look, s.own = o.lookText(product), o.ownText(product)
		s.present = o.presentText(product)
	}
	return s
}

// literal quotes a string as SQL, with backslashes escaped. The string must not contain NUL.
func literal(s string) string {
	if strings.Contains(s, `\`) {
		return "E'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// Compose returns the statement that carries the rows of a chunk, to show in plans.
func Compose(o Options, product server.Product) string {
	switch sql := compose(o, product); {
	case o.Method == Insert:
		return sql.insert
	case sql.raw != "":
		return sql.raw
	default:
		return sql.copy
	}
}

// args returns the chunk's columns as the parameters of insert and fill. Columns travel in
// binary form, and one connection sends such a statement again and again; see
// server.RepeatedMode.
func args(mode pgx.QueryExecMode, chunk *rows.Chunk) []any {
	a := make([]any, 1+chunk.Width())
	a[0] = mode
	for i := range chunk.Width() {
		a[1+i] = chunk.Col(i)
	}
	return a
}

// maxNoProgress is how often the server may refuse or drop rows with free keys before that
// counts as permanent.
const maxNoProgress = 3

// statement makes one attempt in mode Statement: after doubt it looks the rows up first, then
// sends the missing ones.
func (c *Committer) statement(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, p *progress) error {
	if chunk.Len() == 0 {
		return nil // a part of a file without records
	}
	send := c.sql.insert
	if p.verify && !c.SkipVerification {
		p.out.LookUps++
		found, err := c.find(ctx, conn, chunk, nil)
		if err != nil {
			return err
		}
		if err := c.taken(chunk, found, p); err != nil {
			return c.orIsolate(p, err)
		}
		switch {
		case found.ours == chunk.Len():
			p.out.AlreadyCommitted, p.out.LookedUp = true, c.LooksUp()
			return nil
		case found.conflicting > 0:
			return c.orIsolate(p, &DuplicateError{Key: found.firstConflicting})
		}
		// The keys of the missing rows are free. If the server still refuses or drops them, the
		// cause is another unique index or a trigger.
		if p.noProgress > maxNoProgress {
			if p.lastDup != nil && chunk.Origin != nil {
				return c.orIsolate(p, c.locate(ctx, chunk, p, server.Duplicate, p.lastDup))
			}
			if p.lastDup != nil {
				return &DuplicateError{Err: p.lastDup}
			}
			return fmt.Errorf("%w: the server stores %d of %d rows, however often they are sent; a trigger or rule may drop the others", loader.ErrUnconfirmed, found.ours, chunk.Len())
		}
		if found.ours > 0 {
			send = c.sql.fill
		} else if p.late {
			return slow(chunk.Len(), c.ChunkTimeout)
		}
	}
	p.sent = true
	n, err := c.send(ctx, conn, chunk, send, p)
	if err != nil {
		return err
	}
	if n == int64(chunk.Len()) {
		return nil
	}
	// The server reports fewer rows than were sent: only a lookup can decide.
	p.verify = true
	p.doubt = p.doubt || n > 0 // these keys were free
	p.noProgress++
	if c.SkipVerification {
		return nil
	}
	return errRetry{}
}

// orIsolate returns err, the error of a duplicate, or errRetry in a load that tolerates bad rows:
// the next attempt makes rejects of them.
func (c *Committer) orIsolate(p *progress, err error) error {
	if c.Tolerate == nil {
		return err
	}
	p.isolate = true
	return errRetry{}
}

// send sends the chunk as one statement and returns the number of rows that the server reports
// as written.
func (c *Committer) send(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, insert string, p *progress) (int64, error) {
	// A failed COPY on CockroachDB ends its transaction, even behind a savepoint.
	isolates := c.product == server.CockroachDB && p.isolate
	if c.Method == Copy && insert == c.sql.insert && !isolates {
		return c.copyRows(ctx, conn, chunk, p.before)
	}
	buffers := c.arrays.Get().(*[][]byte)
	defer c.arrays.Put(buffers)
	list, sent := c.typed(chunk, buffers)
	tag, err := conn.Exec(ctx, c.statementFor(insert, sent), list...)
	return tag.RowsAffected(), err
}

// copyRows sends the chunk by COPY, after the statements in before.
func (c *Committer) copyRows(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, before string) (int64, error) {
	if raw := chunk.Raw(); raw != nil {
		return copyText(ctx, conn, raw, before+c.sql.raw)
	}
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	if c.TextCopy {
		*buf = chunk.AppendCopyText((*buf)[:0], '\t')
	} else {
		*buf = appendBinary((*buf)[:0], chunk)
	}
	return copyText(ctx, conn, *buf, before+c.sql.copy)
}

func copyText(ctx context.Context, conn *pgx.Conn, data []byte, sql string) (int64, error) {
	trace, done := traceCopy(ctx, conn, sql)
	lent := &lentReader{data: data}
	defer lent.takeBack()
	tag, err := conn.PgConn().CopyFrom(trace, lent, sql)
	done(tag, err)
	return tag.RowsAffected(), err
}

// A finding is the result of looking up a chunk's keys.
type finding struct {
	ours, conflicting int
	firstConflicting  string // "id=17"
	firstKey          int64
	missing           int
	sum               uint64  // checksum of the rows in the table; see Verify
	state             []state // of each row of the chunk

	// For rows of text: the number of statements that wrote the chunk's own rows; and three
	// positions, from 1: the first row whose key belongs to another row, the first whose key
	// exists, and the first whose key occurs earlier in the chunk.
	stamps, other, there, repeated int
}

// A state is the lookup result for one row.
type state uint8

const (
	absent state = iota
	other        // the key exists with other content
	same
)

// find fetches the rows with the chunk's keys and compares all their columns. keys, when not
// nil, replaces the chunk's own keys.
func (c *Committer) find(ctx context.Context, conn *pgx.Conn, chunk *rows.Chunk, keys []int64) (finding, error) {
	if c.fromText() {
		return c.findText(ctx, conn, chunk, c.sql.look)
	}
	at := c.keyColumn(chunk)
	if at < 0 {
		return finding{}, fmt.Errorf("%w: rows cannot be looked up: their source gives them no keys", loader.ErrUnconfirmed)
	}
	if keys == nil {
		keys = chunk.Col(at).Ints
	}
	place := make(map[int64]int, len(keys))
	for i, k := range keys {
		place[k] = i
	}
	var f finding
	f.state = make([]state, len(keys))
	found, err := conn.Query(ctx, c.sql.lookup, c.repeated, keys)
	if err != nil {
		return f, err
	}
	defer found.Close()
	row := newScanner(chunk)
	for found.Next() {
		if err := found.Scan(row.targets...); err != nil {
			return f, err
		}
		i := place[*row.ints[at]]
		f.sum += row.sum(chunk)
		if row.equal(chunk, i, at) {
			f.state[i] = same
			f.ours++
			continue
		}
		f.state[i] = other
		if f.conflicting++; f.conflicting == 1 || keys[i] < f.firstKey {
			f.firstKey, f.firstConflicting = keys[i], fmt.Sprintf("%s=%d", c.Key, keys[i])
		}
	}
	if err := found.Err(); err != nil {
		return f, err
	}
	f.missing = len(keys) - f.ours - f.conflicting
	return f, nil
}
