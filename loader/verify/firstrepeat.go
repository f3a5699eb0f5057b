package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/extsort"
	"bulkload/loader/rows"
)

// FirstRepeat names the first record with the key of an earlier one; empty if there is none.
// The keys are sorted on disk. Nothing of the table is read.
func (v *Verifier) FirstRepeat(ctx context.Context) (string, error) {
	v.note("reading the files again, to find repeated keys")
	var keys extsort.Sorter
	defer keys.Close()
	all := []chunker.Range{v.all()}
	err := v.eachKey(ctx, all, func(_ *rows.Chunk, _ int, at rows.Place, key commit.KeyHash) error {
		return keys.Add(record(key, at.Position))
	})
	// later is the first record with the key of an earlier one, at earlier.
	earlier, later := int64(-1), int64(-1)
	if err == nil {
		err = groups(&keys, func(positions []int64) error {
			if len(positions) > 1 && (later < 0 || positions[1] < later) {
				earlier, later = positions[0], positions[1]
			}
			return nil
		})
	}
	if err != nil || later < 0 {
		return "", err
	}
	var first rows.Place
	text := ""
	err = v.eachRow(ctx, all, func(c *rows.Chunk, places []rows.Place) error {
		for i, at := range places {
			switch at.Position {
			case earlier:
				first = at
			case later:
				text = fmt.Sprintf("%s: duplicate key %s: the record at %s has the same key", at, v.Committer.KeyText(c, i), first)
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
