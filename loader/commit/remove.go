package commit

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// Removed counts the rows of a chunk after Remove.
type Removed struct {
	Rows    int64 // deleted
	Changed int64 // rows whose key exists with other content: they stay
	Missing int64 // rows whose key does not exist
}

// removeText returns the statement that deletes the rows whose key and content match the
// records.
func (o *Options) removeText(product server.Product) string {
	return fmt.Sprintf("DELETE FROM %s WHERE (%s) IN (SELECT %s %s WHERE %s)", o.Table.Sanitize(), list(columnsNamed(o.Keys)), o.keysOf("t"), o.joined(product, o.stored()), o.same(product))
}

// Remove deletes the rows of a chunk from the table, but only those that match in the whole key
// and content. rekeyed maps row numbers to keys, for rows with another key than the chunk's;
// see registry.Rekeyed. A repeated call finds nothing more.
func (c *Committer) Remove(ctx context.Context, chunk *rows.Chunk, rekeyed map[int64]int64) (r Removed, err error) {
	if chunk.Len() == 0 {
		return r, nil
	}
	err = server.RetryOpening(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, c.ChunkTimeout)
		defer cancel()
		o := pgx.TxOptions{}
		if c.product == server.PostgreSQL {
			// No row may change between its comparison and its deletion.
			o.IsoLevel = pgx.RepeatableRead
		}
		return pgx.BeginTxFunc(ctx, c.pool, o, func(tx pgx.Tx) (err error) {
			if c.fromText() {
				r, err = c.removeRecords(ctx, tx, chunk)
			} else {
				r, err = c.removeKeys(ctx, tx, chunk, rekeyed)
			}
			return err
		})
	})
	return r, err
}

func (c *Committer) removeRecords(ctx context.Context, tx pgx.Tx, chunk *rows.Chunk) (r Removed, err error) {
	found, err := tx.Query(ctx, c.sql.states, args(c.repeated, chunk)...)
	if err != nil {
		return r, err
	}
	states, err := pgx.CollectRows(found, pgx.RowTo[RowState])
	if err != nil {
		return r, err
	}
	for _, s := range states {
		switch s {
		case OtherRow:
			r.Changed++
		case NoRow:
			r.Missing++
		}
	}
	tag, err := tx.Exec(ctx, c.removeText(c.product), args(c.repeated, chunk)...)
	r.Rows = tag.RowsAffected()
	return r, err
}

func (c *Committer) removeKeys(ctx context.Context, tx pgx.Tx, chunk *rows.Chunk, rekeyed map[int64]int64) (r Removed, err error) {
	at := c.keyColumn(chunk)
	keys := append([]int64(nil), chunk.Col(at).Ints...)
	for i := range keys {
		if k, ok := rekeyed[chunk.Row(i)]; ok {
			keys[i] = k
		}
	}
	f, err := c.find(ctx, tx.Conn(), chunk, keys)
	if err != nil {
		return r, err
	}
	r.Changed, r.Missing = int64(f.conflicting), int64(f.missing)
	var ours []int64
	for i, s := range f.state {
		if s == same {
			ours = append(ours, keys[i])
		}
	}
	key := pgx.Identifier{c.Key}.Sanitize()
	tag, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s = ANY($1::INT8[])", c.Table.Sanitize(), key), ours)
	r.Rows = tag.RowsAffected()
	return r, err
}

// CheckRemovable returns why rows of a table cannot be deleted without side effects on other
// data; an empty string means that they can.
func CheckRemovable(ctx context.Context, db server.Querier, t *server.Table) (why string, err error) {
	for _, q := range []struct{ sql, why string }{
		{`SELECT conname::TEXT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = $1::OID AND confdeltype IN ('c', 'n', 'd')`,
			"the foreign key %s of another table acts when a row is deleted"},
		{`SELECT tgname::TEXT FROM pg_catalog.pg_trigger WHERE tgrelid = $1::OID AND NOT tgisinternal AND (tgtype::INT8 & 8) <> 0`,
			"the trigger %s acts when a row is deleted"},
		{`SELECT rulename::TEXT FROM pg_catalog.pg_rewrite WHERE ev_class = $1::OID AND ev_type = '4'`,
			"the rule %s acts when a row is deleted"},
	} {
		found, err := db.Query(ctx, q.sql, t.OID)
		var names []string
		if err == nil {
			names, err = pgx.CollectRows(found, pgx.RowTo[string])
		}
		switch code := server.Code(err); {
		case code == pgerrcode.UndefinedTable, code == pgerrcode.UndefinedColumn: // a version that lacks these catalogues
		case err != nil:
			return "", err
		case len(names) > 0:
			return fmt.Sprintf(q.why, strings.Join(names, ", ")), nil
		}
	}
	return "", nil
}
