package verify

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
	"bulkload/loader/commit"
	"bulkload/loader/rows"
)

// A keyAt is the hash of a record's key and the record's position, in a file of keys.
const keyAtBytes = len(commit.KeyHash{}) + 8

// keyFiles is the number of files over which keys are spread by their hashes, so that each
// fits into memory: 2^30 records make files of 400 MiB.
const keyFiles = 64

// FirstRepeat says which record is the first whose key an earlier one has; empty where there
// is none. The keys are spread over files on disk and compared file by file. Nothing of the
// table is read.
func (v *Verifier) FirstRepeat(ctx context.Context) (string, error) {
	v.note("reading the files once more, to see whether a key is repeated")
	dir, err := os.MkdirTemp("", "loader-keys-")
	if err != nil {
		return "", fmt.Errorf("compare the keys of the files: %w", err)
	}
	defer os.RemoveAll(dir)
	files, err := v.spreadKeys(ctx, dir)
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
	err = v.eachRow(ctx, []chunker.Range{v.all()}, func(c *rows.Chunk) error {
		for i := range c.Len() {
			switch at := c.Origin.Place(i); at.Position {
			case earlier:
				first = at
			case later:
				text = fmt.Sprintf("%s: duplicate key %s: the record at %s has it too", at, v.Committer.KeyText(c, i), first)
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

// spreadKeys writes the keys of all records to files in dir.
func (v *Verifier) spreadKeys(ctx context.Context, dir string) ([]*os.File, error) {
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
	err := v.eachKey(ctx, []chunker.Range{v.all()}, func(c *rows.Chunk, i int, key commit.KeyHash) error {
		n := copy(record[:], key[:])
		binary.BigEndian.PutUint64(record[n:], uint64(c.Origin.Place(i).Position))
		outs[int(key[0])%keyFiles].Write(record[:]) // Flush has its error
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
