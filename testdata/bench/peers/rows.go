package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
	"bulkload/testdata/bench/measure"
)

func points() dataset.PointSource {
	return dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: dataset.MinKeyBase, Rows: *nRows}}
}

// writeRows writes the points to a file, in small parts: a child's peak memory starts from this
// process's memory.
func writeRows(path string, separator byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c := rows.NewChunk(points().Columns())
	var b []byte
	for first := int64(0); first < *nRows; first += 10_000 {
		if err := points().Fill(c, chunker.RowSpan(first, min(10_000, *nRows-first))); err != nil {
			return err
		}
		b = b[:0]
		for i := range c.Len() {
			b = strconv.AppendInt(b, c.Col(0).Ints[i], 10)
			for k := 1; k < 4; k++ {
				b = append(b, separator)
				b = strconv.AppendFloat(b, c.Col(k).Floats[i], 'g', -1, 64)
			}
			b = append(b, '\n')
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Close()
}

// bareLoop sends the same rows as the loader, without registry, look-up, ledger, retries and
// checks.
func bareLoop(ctx context.Context) error {
	size := *chunk
	if size == 0 {
		size = chunker.DefaultRowsPerChunk
		if *bare == "copy" {
			size = 20_000
		}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range *workers {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, *measure.Target)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			commit.Prepare(conn)
			c := rows.NewChunk(points().Columns())
			var buf []byte
			for {
				first := next.Add(size) - size
				if first >= *nRows {
					return nil
				}
				if err := points().Fill(c, chunker.RowSpan(first, min(size, *nRows-first))); err != nil {
					return err
				}
				if *bare == "copy" {
					buf = encode(buf[:0], c)
					_, err = conn.PgConn().CopyFrom(ctx, bytes.NewReader(buf), "COPY points (id, x, y, z) FROM STDIN (FORMAT binary)")
				} else {
					_, err = conn.Exec(ctx, "INSERT INTO points (id, x, y, z) SELECT * FROM unnest($1::INT8[], $2::FLOAT8[], $3::FLOAT8[], $4::FLOAT8[])", c.Col(0), c.Col(1), c.Col(2), c.Col(3))
				}
				if err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// encode writes a chunk of points in COPY's binary format.
func encode(buf []byte, c *rows.Chunk) []byte {
	be := binary.BigEndian
	buf = append(buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	ids, x, y, z := c.Col(0).Ints, c.Col(1).Floats, c.Col(2).Floats, c.Col(3).Floats
	for i := range ids {
		buf = be.AppendUint16(buf, 4)
		for _, v := range [4]uint64{uint64(ids[i]), math.Float64bits(x[i]), math.Float64bits(y[i]), math.Float64bits(z[i])} {
			buf = be.AppendUint32(buf, 8)
			buf = be.AppendUint64(buf, v)
		}
	}
	return be.AppendUint16(buf, 0xffff)
}
