package commit

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/failure"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A Verdict is the result of comparing the rows of a chunk with the table.
type Verdict struct {
	Same    int64  // rows that exist with equal content
	Changed int64  // rows whose key exists with other content
	Missing int64  // rows whose key does not exist
	First   int64  // number of the first row that is changed or missing; -1 for none
	Key     int64  // its key
	Want    uint64 // checksum of the chunk's rows
	Got     uint64 // checksum of the rows in the table
}

// Verify compares the rows of chunk with the table. rekeyed maps row numbers to keys, for rows
// with another key than the chunk's; see registry.Rekeyed.
//
// A checksum is the sum, over the rows, of the 64-bit FNV-1a hash of the row's values, 8 bytes
// per number. It does not depend on the order of rows or the bounds of chunks.
func (c *Committer) Verify(ctx context.Context, chunk *rows.Chunk, rekeyed map[int64]int64) (Verdict, error) {
	v := Verdict{First: -1}
	at := c.keyColumn(chunk)
	keys := slices.Clone(chunk.Col(at).Ints)
	for i := range keys {
		if k, ok := rekeyed[chunk.Row(i)]; ok {
			keys[i] = k
		}
	}
	var f finding
	err := c.read(ctx, func() error {
		conn, err := c.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		f, err = c.find(ctx, conn.Conn(), chunk, keys)
		return err
	})
	if err != nil {
		return v, err
	}
	v.Same, v.Changed, v.Missing, v.Got = int64(f.ours), int64(f.conflicting), int64(f.missing), f.sum
	for i, s := range f.state {
		v.Want += sumRow(chunk, i, at, keys[i])
		if s != same && (v.First < 0 || chunk.Row(i) < v.First) {
			v.First, v.Key = chunk.Row(i), keys[i]
		}
	}
	return v, nil
}

// CountKeys returns the number of rows in the table whose key is in r.
func (c *Committer) CountKeys(ctx context.Context, r chunker.Range) (int64, error) {
	key := pgx.Identifier{c.Key}.Sanitize()
	var n int64
	err := c.read(ctx, func() error {
		return c.pool.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s >= $1 AND %s < $2", c.Table.Sanitize(), key, key), r.First, r.End).Scan(&n)
	})
	return n, err
}

// read calls fn, which only reads, again while connections break or the server is away, for
// RetryFor at most.
func (c *Committer) read(ctx context.Context, fn func() error) error {
	return server.RetryPolicy{For: c.RetryFor, Judge: func(err error) bool {
		return server.MayPass(err) && failure.Of(err) == failure.None
	}}.Do(ctx, fn)
}

// sumRow returns the hash of row i of the chunk, with key as the value of column at.
func sumRow(chunk *rows.Chunk, i, at int, key int64) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for k := range chunk.Width() {
		v := chunk.Col(k)
		switch {
		case k == at:
			binary.BigEndian.PutUint64(b[:], uint64(key))
		case v.Kind == rows.Int:
			binary.BigEndian.PutUint64(b[:], uint64(v.Ints[i]))
		case v.Kind == rows.Float:
			binary.BigEndian.PutUint64(b[:], math.Float64bits(v.Floats[i]))
		default:
			text, _ := v.Text(i)
			h.Write(text)
			continue
		}
		h.Write(b[:])
	}
	return h.Sum64()
}

// A scanner reads rows of the table into variables of the chunk's kinds.
type scanner struct {
	ints    []*int64
	floats  []*float64
	texts   []*string
	targets []any
}

func newScanner(chunk *rows.Chunk) *scanner {
	n := chunk.Width()
	s := &scanner{ints: make([]*int64, n), floats: make([]*float64, n), texts: make([]*string, n), targets: make([]any, n)}
	for i := range s.targets {
		switch chunk.Col(i).Kind {
		case rows.Int:
			s.targets[i] = &s.ints[i]
		case rows.Float:
			s.targets[i] = &s.floats[i]
		default:
			s.targets[i] = &s.texts[i]
		}
	}
	return s
}

// equal reports whether the scanned row equals row i of the chunk, ignoring the key in column
// at.
func (s *scanner) equal(chunk *rows.Chunk, i, at int) bool {
	for k := range s.targets {
		v := chunk.Col(k)
		switch {
		case k == at:
		case v.Kind == rows.Int:
			if s.ints[k] == nil || *s.ints[k] != v.Ints[i] {
				return false
			}
		case v.Kind == rows.Float:
			if s.floats[k] == nil || math.Float64bits(*s.floats[k]) != math.Float64bits(v.Floats[i]) {
				return false
			}
		default:
			b, ok := v.Text(i)
			if ok != (s.texts[k] != nil) || ok && *s.texts[k] != string(b) {
				return false
			}
		}
	}
	return true
}

// sum returns the hash of the scanned row, like sumRow.
func (s *scanner) sum(chunk *rows.Chunk) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for k := range s.targets {
		switch chunk.Col(k).Kind {
		case rows.Int:
			if s.ints[k] == nil {
				continue
			}
			binary.BigEndian.PutUint64(b[:], uint64(*s.ints[k]))
		case rows.Float:
			if s.floats[k] == nil {
				continue
			}
			binary.BigEndian.PutUint64(b[:], math.Float64bits(*s.floats[k]))
		default:
			if s.texts[k] != nil {
				h.Write([]byte(*s.texts[k]))
			}
			continue
		}
		h.Write(b[:])
	}
	return h.Sum64()
}
