package commit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A KeyHash is the hash of a key. Keys that the server considers equal have equal hashes.
// Different keys have different hashes, except for one pair in 2^64.
type KeyHash [16]byte

// hashesRecords reports whether the server can hash whole keys consistently with their
// comparison (hash_record_extended, PostgreSQL 14).
func hashesRecords(info server.Info) bool {
	return info.Product == server.PostgreSQL && info.AtLeast(14, 0, 0)
}

// keysText returns a query that identifies the records' keys, in the order of the records: by
// two hash columns if the server can hash records, otherwise by the keys' texts.
func (o *Options) keysText(info server.Info) string {
	var columns []string
	switch {
	case hashesRecords(info):
		row := "ROW(" + o.keysOf("csv") + ")"
		columns = append(columns, "hash_record_extended("+row+", 0)", "hash_record_extended("+row+", 1)")
	default:
		for _, k := range o.Keys {
			name := "csv." + pgx.Identifier{k}.Sanitize()
			text := name + "::TEXT"
			if c := columnNamed(o.Columns, k); strings.HasPrefix(c.Type, "FLOAT") || c.Type == "double precision" || c.Type == "real" {
				text = "CASE WHEN " + name + " = 0 THEN '0' ELSE " + text + " END" // -0
			}
			columns = append(columns, text)
		}
	}
	return fmt.Sprintf("SELECT %s FROM %s ORDER BY csv.%s", strings.Join(columns, ", "), o.stored(), ordinal)
}

func columnNamed(list []rows.Column, name string) rows.Column {
	for _, c := range list {
		if c.Name == name {
			return c
		}
	}
	return rows.Column{}
}

// CheckKeys returns the server's error if KeyHashes does not work for the key columns of rows
// of text. Some types can be compared but not hashed.
func (c *Committer) CheckKeys(ctx context.Context) error {
	return c.read(ctx, func() error { return c.CheckKeysOn(ctx, c.pool) })
}

// CheckKeysOn is CheckKeys by one query of db, for a record of NULLs.
func (c *Committer) CheckKeysOn(ctx context.Context, db server.Querier) error {
	nulls := make([]any, len(c.Columns))
	for i, col := range c.Columns {
		switch col.Kind {
		case rows.Int:
			nulls[i] = []*int64{nil}
		case rows.Float:
			nulls[i] = []*float64{nil}
		default:
			nulls[i] = []*string{nil}
		}
	}
	found, err := db.Query(ctx, c.sql.keys, nulls...)
	if err != nil {
		return err
	}
	found.Close()
	return found.Err()
}

// KeyHashes returns a hash of the key of each row of a chunk of text. It does not read the
// table.
func (c *Committer) KeyHashes(ctx context.Context, chunk *rows.Chunk) ([]KeyHash, error) {
	list := make([]KeyHash, 0, chunk.Len())
	err := c.read(ctx, func() error {
		found, err := c.pool.Query(ctx, c.sql.keys, args(c.repeated, chunk)...)
		if err != nil {
			return err
		}
		list = list[:0]
		sum := sha256.New()
		var size [8]byte
		for found.Next() {
			sum.Reset()
			for _, value := range found.RawValues() {
				binary.BigEndian.PutUint64(size[:], uint64(len(value)))
				sum.Write(size[:])
				sum.Write(value)
			}
			var h KeyHash
			copy(h[:], sum.Sum(nil))
			list = append(list, h)
		}
		return found.Err()
	})
	if err != nil {
		return nil, err
	}
	if len(list) != chunk.Len() {
		return nil, fmt.Errorf("the server gave %d keys for %d rows", len(list), chunk.Len())
	}
	return list, nil
}

// KeyText returns the key of row i of a chunk of text, for messages.
func (c *Committer) KeyText(chunk *rows.Chunk, i int) string { return c.keyText(chunk, i) }
