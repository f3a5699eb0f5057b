package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"bulkload/loader/failure"
)

// Sampling of a file for its hash.
const (
	samples     = 64
	sampleBytes = 64 << 10
)

// sample returns the SHA-256 of blocks spread over the file, including its first and last one.
// Files of up to 4 MiB are hashed whole. Reading all of a large file would cost about as much
// as the load.
func sample(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, sampleBytes)
	step := max((size-sampleBytes)/(samples-1), sampleBytes)
	for at := int64(0); at < size; at += step {
		if size-at < step { // the last block ends with the file
			at = max(at-sampleBytes, 0, size-sampleBytes)
			step = size
		}
		n, err := r.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		h.Write(buf[:n])
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// Same returns ErrChanged, with the difference, if the file is not the inspected one. A
// different time alone counts as a change unless anyTime is set: equal samples say little about
// the bytes between them.
func (in *Input) Same(ctx context.Context, f *File, anyTime bool) error {
	switch {
	case f.Name == Stdin:
		return failure.Reading(Stdin, ErrOnce)
	case f.Once:
		return failure.Reading(f.Name, fmt.Errorf("%w: the query of its address is not stored", ErrOnce))
	}
	now := File{Name: f.Name, Bytes: -1}
	if _, err := in.peek(ctx, &now); err != nil {
		return err
	}
	switch {
	case now.Bytes != f.Bytes:
		return failure.Reading(f.Name, fmt.Errorf("%w: it has %d bytes and had %d", ErrChanged, now.Bytes, f.Bytes))
	case now.Hash != f.Hash:
		return failure.Reading(f.Name, fmt.Errorf("%w: its content differs", ErrChanged))
	case !now.Modified.Equal(f.Modified) && !anyTime:
		return failure.Reading(f.Name, fmt.Errorf("%w: it was modified at %s; --any-time resumes if only the time differs", ErrChanged, now.Modified.Format(time.DateTime)))
	}
	return nil
}

// touch records the present modification time of a plain file in f.
func (in *Input) touch(f *File) error {
	if f.Name == Stdin || isURL(f.Name) {
		return nil
	}
	info, err := os.Stat(f.Name)
	if err != nil {
		return failure.Reading(f.Name, err)
	}
	f.Modified = info.ModTime().UTC()
	return nil
}
