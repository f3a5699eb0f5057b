package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A keyAt is the hash of a record's key and the record's position, in a file of keys.
const keyAtBytes = len(commit.KeyHash{}) + 8

// keyFiles is the number of files over which keys are spread by their hashes, so that each
// fits into memory: 2^30 records make files of 400 MiB.
const keyFiles = 64

// firstRepeat says which record of the load's files is the first whose key an earlier one
// has; empty where there is none. The keys are spread over files on disk and compared file
// by file. Nothing of the table is read.
func (l *Load) firstRepeat(ctx context.Context) (string, error) {
	if l.Table.OID == 0 { // the job of an earlier run had it offline
		t, err := server.Describe(ctx, l.pool, l.srv.Info, l.spec.Table)
		if err != nil {
			return "", err
		}
		l.Table = t
		if err := l.refit(ctx, l.opening(l.settings)); err != nil {
			return "", err
		}
	}
	if !l.Dataset.Import().OwnKeys {
		return "", nil
	}
	if why := l.Dataset.Import().Repeats(); why != "" {
		return "", fmt.Errorf("%w: whether records are repeated cannot be told: %s", loader.ErrUnconfirmed, why)
	}
	l.note("reading the files once more, to see whether a key is repeated")
	committer, err := commit.New(l.pool, l.srv.Info, l.options(l.settings))
	if err != nil {
		return "", &TableError{Reason: err.Error()}
	}
	dir, err := os.MkdirTemp("", "loader-keys-")
	if err != nil {
		return "", fmt.Errorf("compare the keys of the files: %w", err)
	}
	defer os.RemoveAll(dir)
	var all chunker.Ranges
	all.Add(chunker.Range{End: l.Dataset.Size().Positions})
	files, err := l.spreadKeys(ctx, committer, dir, all)
	if err != nil {
		return "", err
	}
	// later is the first record that repeats another, at earlier.
	earlier, later := int64(-1), int64(-1)
	for _, f := range files {
		a, b, err := firstRepeatIn(f.Name())
		if err != nil {
			return "", fmt.Errorf("compare the keys of the files: %w", err)
		}
		if b >= 0 && (later < 0 || b < later) {
			earlier, later = a, b
		}
	}
	if later < 0 {
		return "", nil
	}
	var first rows.Place
	text := ""
	err = l.eachRow(ctx, all, func(c *rows.Chunk) error {
		for i := range c.Len() {
			switch at := c.Origin.Place(i); at.Position {
			case earlier:
				first = at
			case later:
				text = fmt.Sprintf("%s: duplicate key %s: the record at %s has it too", at, committer.KeyText(c, i), first)
				return io.EOF
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return text, nil
}

// spreadKeys writes the keys of the ranges to files in dir.
func (l *Load) spreadKeys(ctx context.Context, committer *commit.Committer, dir string, ranges chunker.Ranges) ([]*os.File, error) {
	files := make([]*os.File, keyFiles)
	outs := make([]*bufio.Writer, keyFiles)
	for i := range files {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		if err != nil {
			return nil, fmt.Errorf("compare the keys of the files: %w", err)
		}
		defer f.Close()
		files[i], outs[i] = f, bufio.NewWriter(f)
	}
	var record [keyAtBytes]byte
	err := l.eachRow(ctx, ranges, func(c *rows.Chunk) error {
		var keys []commit.KeyHash
		err := server.Again(ctx, func() (err error) {
			keys, err = committer.KeyHashes(ctx, c)
			return err
		})
		if err != nil {
			return fmt.Errorf("%w: compare the keys of %s: %w", loader.ErrUnconfirmed, loader.Place(l.Dataset.Source(), c.Span), err)
		}
		for i, key := range keys {
			n := copy(record[:], key[:])
			binary.BigEndian.PutUint64(record[n:], uint64(c.Origin.Place(i).Position))
			outs[int(key[0])%keyFiles].Write(record[:]) // Flush has its error
		}
		return nil
	})
	for _, out := range outs {
		if flush := out.Flush(); err == nil && flush != nil {
			err = fmt.Errorf("compare the keys of the files: %w", flush)
		}
	}
	return files, err
}

// firstRepeatIn returns, of a file of keys, the position of the first record whose key an
// earlier one has, and that of the earliest of these; -1 where there is none.
func firstRepeatIn(name string) (earlier, later int64, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return -1, -1, err
	}
	list := slices.Collect(slices.Chunk(text, keyAtBytes))
	slices.SortFunc(list, bytes.Compare) // by key, and then by position
	earlier, later = -1, -1
	position := func(i int) int64 { return int64(binary.BigEndian.Uint64(list[i][len(commit.KeyHash{}):])) }
	same := func(i, j int) bool {
		return bytes.Equal(list[i][:len(commit.KeyHash{})], list[j][:len(commit.KeyHash{})])
	}
	for i := 1; i < len(list); i++ {
		if first := i == 1 || !same(i-2, i-1); first && same(i-1, i) && (later < 0 || position(i) < later) {
			earlier, later = position(i-1), position(i)
		}
	}
	return earlier, later, nil
}
