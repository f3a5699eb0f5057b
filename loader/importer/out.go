package importer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"bulkload/loader/atomicfile"
	"bulkload/loader/failure"
	"bulkload/loader/importer/virtual"
)

// A FileError says that a file could not be written.
type FileError = failure.FileError

// Out writes each virtual file to the file of its name, several at a time. A name that ends
// with .gz or .zst compresses. Only the owner can read the files. An existing file is
// an error, and not overwritten. After an error, or the end of ctx, none of the files is left. The
// error is a *FileError, a *SourceError, or ctx's.
func Out(ctx context.Context, names []string, texts []*virtual.File, workers int) (err error) {
	for i, n := range names {
		if _, err := os.Lstat(n); err == nil {
			return failure.Writing(n, os.ErrExist)
		}
		for _, other := range names[:i] {
			if other == n {
				return failure.Writing(n, fmt.Errorf("%d files would have this name; a * in the name becomes the file's number", len(names)))
			}
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(max(workers, 1))
	for i, t := range texts {
		group.Go(func() error { return out(gctx, names[i], t) })
	}
	if err := group.Wait(); err != nil {
		for _, n := range names {
			os.Remove(n)
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return err
	}
	return nil
}

// out writes one file. The file has its name only when it is complete.
func out(ctx context.Context, name string, t *virtual.File) (err error) {
	f, err := atomicfile.Create(name)
	if err != nil {
		return failure.Writing(name, err)
	}
	defer func() {
		if err != nil {
			f.Discard()
		}
	}()
	b := bufio.NewWriterSize(f, 256<<10)
	var w io.Writer = b
	end := func() error { return nil }
	switch {
	case strings.HasSuffix(name, ".gz"):
		z := gzip.NewWriter(b)
		w, end = z, z.Close
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewWriter(b, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return failure.Writing(name, err)
		}
		w, end = z, z.Close
	}
	if err := t.Write(ctx, w, 0); err != nil {
		var src *virtual.SourceError
		if errors.As(err, &src) || ctx.Err() != nil {
			return err
		}
		return failure.Writing(name, err)
	}
	for _, finish := range []func() error{end, b.Flush, f.Finish} {
		if err := finish(); err != nil {
			return failure.Writing(name, err)
		}
	}
	return nil
}
