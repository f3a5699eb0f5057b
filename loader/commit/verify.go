package commit

import (
	"context"

	"bulkload/loader/rows"
)

// A Verdict says how the rows of a chunk compare with the table.
type Verdict struct {
	Same    int64 // rows that are there with all their content
	Changed int64 // rows whose key is there with other content
	Missing int64 // rows whose key is not there
	First   int64 // number of the first row that is changed or missing; -1 for none
	Key     int64 // its key
}

// Verify compares the rows of chunk with those in the table. moved gives the keys of
// rows that have another than the chunk's; see registry.Moved.
func (c *Committer) Verify(ctx context.Context, chunk *rows.Chunk, moved map[int64]int64) (Verdict, error) {
	v := Verdict{First: -1}
	at := c.keyColumn(chunk)
	keys := append([]int64(nil), chunk.Col(at).Ints...)
	for i := range keys {
		if k, ok := moved[chunk.Row(i)]; ok {
			keys[i] = k
		}
	}
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return v, err
	}
	defer conn.Release()
	f, err := c.find(ctx, conn.Conn(), chunk, keys)
	if err != nil {
		return v, err
	}
	v.Same, v.Changed, v.Missing = int64(f.ours), int64(f.foreign), int64(f.missing)
	for i, s := range f.state {
		if s != same && (v.First < 0 || chunk.Row(i) < v.First) {
			v.First, v.Key = chunk.Row(i), keys[i]
		}
	}
	return v, nil
}
