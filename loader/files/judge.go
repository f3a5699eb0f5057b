package files

import (
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"bulkload/chunker"
	"bulkload/chunker/csv"
)

// judged describes the columns of the files: for files on a disk by all of their records, for
// others by the first records. all says that all files are on a disk.
//
// Judging reads the files once more than loading them. It stops when all columns are text.
func (c *spec) judged(ctx context.Context, in *Input) (columns []Column, all bool, err error) {
	columns = sampled(c.sample, c.Width)
	src := &CSV{Files: c.Files, Dialect: c.Dialect, Width: c.Width, MaxRecordBytes: c.MaxRecord, Input: in}
	defer src.Close()
	all = true
	var ranges []chunker.Range
	for i := range c.Files {
		f := &c.Files[i]
		if f.Name == Stdin || isURL(f.Name) {
			all = false
			continue
		}
		ranges = append(ranges, chunker.Range{First: f.First, End: f.End()})
	}
	var mu sync.Mutex
	text := func() bool { // all columns are text
		mu.Lock()
		defer mu.Unlock()
		for i := range columns {
			if columns[i].forms != 0 {
				return false
			}
		}
		return true
	}
	workers := runtime.GOMAXPROCS(0)
	work := make(chan chunker.Span, workers)
	group, ctx := errgroup.WithContext(ctx)
	// 1. Cut: the spans of a file, in order.
	group.Go(func() error {
		defer close(work)
		for _, r := range ranges {
			spans := src.Cut(r)
			for !text() {
				span, err := spans.Next(math.MaxInt64)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				select {
				case work <- span:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	// 2. Judge. The load reports records that cannot be read.
	for range workers {
		group.Go(func() error {
			mine := newColumns(c.Width)
			o := &origin{src: src}
			for span := range work {
				o.span = span
				if err := src.read(o); err != nil {
					return err
				}
				if err := c.judge(mine, o); err != nil {
					return err
				}
				src.Done(span)
				mu.Lock()
				for i := range mine {
					columns[i].merge(mine[i])
					mine[i] = columns[i]
				}
				mu.Unlock()
			}
			return nil
		})
	}
	return columns, all, group.Wait()
}

// judge includes the records of a span. An ambiguous record is an error.
func (c *spec) judge(columns []Column, o *origin) error {
	scan := csv.Scanner{Dialect: c.Dialect, Buf: o.raw, EOF: true}
	invalid := c.MaxErrors.none() && !utf8.Valid(o.raw)
	for at := 0; at < len(o.raw); at = scan.At {
		if !scan.Skip(scan.Rows+1, math.MaxInt) {
			return nil
		}
		var err error
		if invalid && !utf8.Valid(o.raw[at:scan.At]) {
			return &DataError{o.place(at), o.src.notUTF8(o, at, scan.At).Error()}
		}
		o.fields, o.text, err = c.Dialect.Fields(o.raw[at:scan.At], o.fields[:0], o.text[:0])
		if err != nil {
			continue
		}
		o.fields = o.src.ordered(o)
		if scan.Multiline && len(o.fields) == c.Width && c.Guard.swallows(o.raw[at:scan.At], c.Dialect, c.Width) && c.MaxErrors.none() {
			return &DataError{o.place(at), errSwallowed.Error()}
		}
		scan.Multiline = false
		addRecord(columns, o.fields)
	}
	return nil
}

// sampled describes the columns of parsed records.
func sampled(records [][]csv.Field, width int) []Column {
	columns := newColumns(width)
	for _, r := range records {
		addRecord(columns, r)
	}
	return columns
}

// addRecord includes a record in the descriptions of its columns.
func addRecord(columns []Column, fields []csv.Field) {
	for i := range min(len(fields), len(columns)) {
		if !fields[i].Null {
			columns[i].add(fields[i].Text)
		}
	}
}

// formsOf returns the form of each column.
func formsOf(columns []Column) []Form {
	list := make([]Form, len(columns))
	for i := range columns {
		list[i] = columns[i].form()
	}
	return list
}

// String names the forms in messages.
func (f Form) String() string {
	for _, x := range []struct {
		form Form
		name string
	}{{boolForm, "true or false"}, {intForm, "a whole number"}, {numberForm, "a number"}, {dateForm, "a date as 2006-01-02"}, {timeForm, "a time as 2006-01-02 15:04:05"}, {instantForm, "a time with an offset"}, {uuidForm, "a UUID"}} {
		if f&x.form != 0 {
			return x.name
		}
	}
	return "a text"
}
