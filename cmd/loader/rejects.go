package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"bulkload/loader/atomicfile"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/rows"
)

// errRejected: the load is complete, but rejected some records.
var errRejected = errors.New("bad records were set aside")

// writeRejects writes the rejects to one file, for correction and another load, and their
// errors to a second file. It returns their number.
func (p *program) writeRejects(ctx context.Context, l *load.Load) (int64, error) {
	n, err := l.Rejects(ctx)
	if err != nil || n == 0 {
		return n, err
	}
	name, header := l.Dataset.Rejects()
	own := name + "-" + l.ID
	base := p.rejects
	if base == "" {
		base = own
	}
	err = writeRejectFiles(base, header, func(f func(rows.Reject) error) error { return l.EachReject(ctx, f) })
	if errors.Is(err, fs.ErrExist) {
		base += "-" + l.ID
		err = writeRejectFiles(base, header, func(f func(rows.Reject) error) error { return l.EachReject(ctx, f) })
	}
	if err != nil {
		return n, &writeError{fmt.Errorf("%w; the rejects are kept in table loader.rejects", err)}
	}
	p.note("rejects: %s; reasons: %s", base+recordsSuffix, base+reasonsSuffix)
	return n, nil
}

// checkRejects returns a usage error if the files of rejects could not be written, before a load
// that may need them sends anything. base is what --rejects says; empty is the working directory.
func checkRejects(base string) error {
	where, flag := base, "--rejects "+base
	if base == "" {
		where, flag = "loader", "the working directory (--rejects PATH names another place)"
	}
	for _, suffix := range []string{recordsSuffix, reasonsSuffix} {
		f, err := atomicfile.Create(where + suffix)
		if err != nil {
			return &usageError{fmt.Sprintf("%s: the rejects cannot be written there: %v", flag, reasonOf(err))}
		}
		f.Discard()
		if base == "" {
			return nil
		}
		switch info, err := os.Stat(base + suffix); {
		case err == nil && !info.Mode().IsRegular():
			return &usageError{fmt.Sprintf("%s: the rejects cannot be written there: %s is not a file", flag, base+suffix)}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return &usageError{fmt.Sprintf("%s: the rejects cannot be written there: %v", flag, reasonOf(err))}
		}
	}
	return nil
}

// reasonOf returns the error without the names that the file system puts in front of it.
func reasonOf(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Suffixes of the two files' names.
const (
	recordsSuffix = ".rejects.csv"
	reasonsSuffix = ".errors.csv"
)

// writeRejectFiles writes the two files, readable only by their owner. Existing files may hold
// the rejects of another load, or something else: then the error is fs.ErrExist. Files of an
// earlier run of the same load are replaced: all of their lines are in the new files.
func writeRejectFiles(base, header string, each func(func(rows.Reject) error) error) error {
	recordsName, reasonsName := base+recordsSuffix, base+reasonsSuffix
	records, err := atomicfile.Create(recordsName)
	if err != nil {
		return failure.Writing(recordsName, err)
	}
	defer records.Discard()
	reasons, err := atomicfile.Create(reasonsName)
	if err != nil {
		return failure.Writing(reasonsName, err)
	}
	defer reasons.Discard()
	out, list := bufio.NewWriter(records), csv.NewWriter(reasons)
	if header != "" {
		out.WriteString(header + "\n")
	}
	list.Write([]string{"file", "line", "byte", "column", "sqlstate", "message"})
	err = each(func(r rows.Reject) error {
		out.Write(r.Record)
		if last := len(r.Record) - 1; last < 0 || r.Record[last] != '\n' && r.Record[last] != '\r' {
			out.WriteByte('\n')
		}
		return failure.Writing(reasonsName, list.Write([]string{r.File, strconv.FormatInt(r.Line, 10), strconv.FormatInt(r.Byte, 10), r.Column, r.Code, r.Reason}))
	})
	list.Flush()
	if err := errors.Join(err, failure.Writing(recordsName, out.Flush()), failure.Writing(reasonsName, list.Error())); err != nil {
		return err
	}
	for name, file := range map[string]*atomicfile.File{recordsName: records, reasonsName: reasons} {
		if err := file.Chmod(0o600); err != nil { // independent of the umask
			return failure.Writing(name, err)
		}
		switch held, err := holds(file.Name(), name); {
		case err != nil:
			return failure.Reading(name, err)
		case !held:
			return failure.Writing(name, fs.ErrExist)
		}
	}
	return errors.Join(failure.Writing(recordsName, finish(records, recordsName)), failure.Writing(reasonsName, finish(reasons, reasonsName)))
}

// finish gives a file its name. An old file of that name is replaced: holds has found all of its
// lines in the new one.
func finish(f *atomicfile.File, name string) error {
	if _, err := os.Lstat(name); err == nil {
		return f.Finish()
	}
	return f.FinishNew()
}

// holds reports whether the new file has all lines of an existing old file, in order.
func holds(name, old string) (bool, error) {
	was, err := os.Open(filepath.Clean(old))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer was.Close()
	now, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer now.Close()
	lines, all := bufio.NewReader(was), bufio.NewReader(now)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 {
			if errors.Is(err, io.EOF) {
				return true, nil
			}
			return false, err
		}
		for {
			other, err := all.ReadBytes('\n')
			if bytes.Equal(line, other) {
				break
			}
			if err != nil {
				return false, nil
			}
		}
	}
}
