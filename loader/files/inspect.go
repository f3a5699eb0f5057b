package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
)

// inspect looks at the files: form, dialect, header, sample.
func (d *Dataset) inspect(ctx context.Context, f *Request) (*spec, error) {
	c := &spec{Set: slices.Clone(f.Set), Conflict: f.Conflict, MaxErrors: f.MaxErrors, MaxRecord: f.MaxRecordBytes, header: f.Header}
	if c.header == "" {
		c.header = HeaderAuto
	}
	if c.MaxRecord == 0 {
		c.MaxRecord = DefaultMaxRecordBytes
	}
	var err error
	if c.Files, err = f.Input.Inspect(ctx, f.Names, f.Encoding); err != nil {
		return nil, err
	}
	c.Dialect = csv.Dialect{Delimiter: f.Delimiter, Quote: f.Quote, Escape: f.Escape, Null: f.Null}
	if c.Dialect.Quote == 0 && !f.NoQuote {
		c.Dialect.Quote = '"'
	}
	// The first file that has a record decides for all.
	guessed := f.Delimiter == 0
	for i := range c.Files {
		file := &c.Files[i]
		var list [][]csv.Field
		delimiter := c.Dialect.Delimiter
		head, whole, err := c.head(ctx, f, file, func(head []byte, whole bool) (bool, error) {
			file.Data = Skipped(head, f.Skip)
			if !Valid(head, whole) && f.MaxErrors.none() {
				return false, failure.Reading(file.Name, errors.New("is not UTF-8; name its encoding, for example --encoding latin1"))
			}
			body := head[file.Data:]
			if c.Dialect.Delimiter = delimiter; delimiter == 0 && len(body) > 0 {
				c.Dialect.Delimiter = Sniff(body, whole, c.Dialect)
			}
			if c.sample != nil || len(body) == 0 {
				return true, nil
			}
			if err := c.Dialect.Check(); err != nil {
				return false, &dataset.TableError{Reason: err.Error()}
			}
			list = Records(body, whole, c.Dialect, sampleRecords)
			return len(list) > 0, nil
		})
		if err != nil {
			return nil, err
		}
		body := head[file.Data:]
		if c.sample != nil || len(body) == 0 {
			continue
		}
		if len(list) == 0 {
			return nil, failure.Reading(file.Name, fmt.Errorf("no record ends within its first %d bytes: a quote is not closed, or --quote, --delimiter, --encoding or --max-record-bytes is another", len(head)))
		}
		c.sample = list
		c.RowBytes = max(recordBytes(body, whole, c.Dialect), 1)
		c.Longest, c.Elements = longest(list)
	}
	if c.Dialect.Delimiter == 0 {
		c.Dialect.Delimiter = ','
	}
	if err := c.Dialect.Check(); err != nil {
		return nil, &dataset.TableError{Reason: err.Error()}
	}
	if guessed && len(c.sample) > 0 {
		d.note(fmt.Sprintf("delimiter %q (guessed; --delimiter names another)", c.Dialect.Delimiter))
	}
	for _, file := range c.Files {
		if what := strings.TrimSpace(file.Form + " " + file.Encoding); what != "" {
			d.note(fmt.Sprintf("%s is %s (by its content)", file.Base(), what))
		}
		switch {
		case file.Name == Stdin:
			d.note("standard input cannot be read twice: this load cannot be resumed after a stop")
		case file.Once:
			d.note(fmt.Sprintf("the query of %s may hold what gives access and is not kept: this load cannot be resumed after a stop", file.Base()))
		}
	}
	return c, nil
}

// head returns the beginning of a file, more of it as long as it is not enough: up to
// the most bytes that a record has.
func (c *spec) head(ctx context.Context, f *Request, file *File, enough func(head []byte, whole bool) (bool, error)) (head []byte, whole bool, err error) {
	for most := HeadBytes; ; most = c.MaxRecord + HeadBytes {
		if head, whole, err = f.Input.Head(ctx, file, most); err != nil {
			return nil, false, err
		}
		if ok, err := enough(head, whole); ok || err != nil || whole || most > HeadBytes {
			return head, whole, err
		}
	}
}

// sampleRecords is the number of records that are looked at before a load.
const sampleRecords = 1000

// recordBytes returns the mean length of the records at the beginning of a file.
func recordBytes(body []byte, whole bool, d csv.Dialect) int64 {
	s := csv.Scanner{Dialect: d, Buf: body, EOF: whole}
	if !s.Skip(math.MaxInt64, math.MaxInt) {
		return int64(len(body))
	}
	return int64(s.At) / s.Rows
}

// longest returns the bytes of the longest record, and the most elements that a field
// may have as an array or a JSON document.
func longest(records [][]csv.Field) (most, elements int64) {
	for _, r := range records {
		var n int64
		for _, f := range r {
			n += int64(len(f.Text)) + 1
			elements = max(elements, int64(bytes.Count(f.Text, []byte{','}))+1)
		}
		most = max(most, n)
	}
	return most, elements
}

// estimate returns about how many rows plain files hold; zero is unknown.
func (c *spec) estimate() int64 {
	var n int64
	for i := range c.Files {
		if c.Files[i].Stream {
			return 0
		}
		n += c.Files[i].Size - c.Files[i].Data
	}
	return (n + c.RowBytes - 1) / max(c.RowBytes, 1)
}
