package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
)

// inspect inspects the files: compression, dialect, sample. The first file with a record decides
// for all files.
func (d *Dataset) inspect(ctx context.Context, f *Request) (*spec, error) {
	c := specOf(f)
	var err error
	if c.Files, err = f.Input.Inspect(ctx, f.Names, f.Encoding); err != nil {
		return nil, err
	}
	guessed := c.Dialect.Delimiter == 0
	x := inspection{spec: c, request: f, ends: map[bool]*File{}}
	for i := range c.Files {
		if err := x.inspect(ctx, &c.Files[i]); err != nil {
			return nil, err
		}
	}
	if c.Dialect.Delimiter == 0 {
		c.Dialect.Delimiter = ','
	}
	if err := checkDialect(c.Dialect); err != nil {
		return nil, err
	}
	c.guessed = guessed && len(c.sample) > 0
	for i := range c.Files {
		d.noteFile(&c.Files[i], f.Encoding != "")
	}
	return c, nil
}

// specOf returns the part of the files' record that the request alone decides.
func specOf(f *Request) *spec {
	c := &spec{Set: slices.Clone(f.Set), Conflict: f.Conflict, MaxErrors: f.MaxErrors, MaxRecord: f.MaxRecordBytes, ShortRows: f.ShortRows, header: f.Header}
	if c.header == "" {
		c.header = HeaderAuto
	}
	if c.MaxRecord == 0 {
		c.MaxRecord = DefaultMaxRecordBytes
	}
	c.Guard.On = !f.NoQuote && f.Quote == 0 && !f.CopyText
	c.Dialect = csv.Dialect{Delimiter: f.Delimiter, Quote: f.Quote, Escape: f.Escape, Null: f.Null}
	switch {
	case f.CopyText:
		c.Dialect.Text = true
		if c.Dialect.Delimiter == 0 {
			c.Dialect.Delimiter = '\t'
		}
		if c.Dialect.Null == "" {
			c.Dialect.Null = `\N`
		}
	case c.Dialect.Quote == 0 && !f.NoQuote:
		c.Dialect.Quote = '"'
	}
	c.Rules = c.Dialect.Rules()
	return c
}

// checkDialect returns an error that names the flags of an invalid dialect.
func checkDialect(d csv.Dialect) error {
	if err := d.Check(); err != nil {
		return dataset.Contradict("%v; --delimiter, --quote, --escape and --null set the format of fields", err)
	}
	return nil
}

// An inspection inspects files, one after the other.
type inspection struct {
	*spec
	request *Request
	ends    map[bool]*File // the first file whose lines end with CR alone (true), or with LF
}

// inspect inspects one file, and takes the sample if no earlier file had a record.
func (c *inspection) inspect(ctx context.Context, file *File) error {
	var body []byte
	var list [][]csv.Field
	delimiter := c.Dialect.Delimiter
	head, whole, err := c.head(ctx, c.request, file, func(head []byte, whole bool) (ok bool, err error) {
		if body, err = c.body(file, head, whole); err != nil {
			return false, err
		}
		if c.sample != nil || len(body) == 0 {
			return true, nil
		}
		if c.Dialect.Delimiter = delimiter; delimiter == 0 {
			c.tied = readings(file.Name, body, whole, c.Dialect)
			c.Dialect.Delimiter = c.tied[0].delimiter
		}
		if err := checkDialect(c.Dialect); err != nil {
			return false, err
		}
		list = Records(body, whole, c.Dialect, sampleRecords)
		return len(list) > 0, nil
	})
	if err != nil {
		return err
	}
	if c.sample != nil || len(body) == 0 {
		return nil
	}
	if len(list) == 0 {
		if err := firstError(body, whole, c.Dialect); err != nil {
			return failure.Reading(file.Name, fmt.Errorf("line %d, the first record: %w", 1+c.Dialect.CountLines(head[:file.Data]), err))
		}
		return failure.Reading(file.Name, fmt.Errorf("no record ends within the first %d bytes: a quote is not closed, or --quote, --delimiter, --encoding or --max-record-bytes is wrong", len(head)))
	}
	c.sample, c.sampled = list, file.Name
	for last := len(list); !c.oneField() && last > 1 && c.blank(list[last-1]); last-- {
		c.sample = list[:last-1]
	}
	c.RowBytes = max(recordBytes(body, whole, c.Dialect), 1)
	c.Longest, c.Elements = longest(list)
	return nil
}

// body returns the part of a file's beginning that holds records. The error says why the file is
// not loaded: its encoding, its format, or line ends that differ from those of other files.
func (c *inspection) body(file *File, head []byte, whole bool) ([]byte, error) {
	lf, cr := bytes.IndexByte(head, '\n') >= 0, bytes.IndexByte(head, '\r') >= 0
	cr = cr && !lf
	if (cr || lf) && c.ends[cr] == nil {
		c.ends[cr] = file
	}
	if other := c.ends[false]; cr && other != nil {
		return nil, failure.Reading(file.Name, fmt.Errorf("ends its lines with CR, but %s with LF; load it separately", other.Base()))
	}
	c.Dialect.CR = cr || c.Dialect.CR
	file.Data = Skipped(head, c.request.Skip, c.Dialect)
	if charset := utf16(head); charset != "" {
		return nil, failure.Reading(file.Name, fmt.Errorf("looks like UTF-16 without a byte order mark; --encoding %s reads it", charset))
	}
	if !Valid(head, whole) && c.request.MaxErrors.none() {
		return nil, failure.Reading(file.Name, errNotUTF8(head, 0, 1))
	}
	if what := archive(file.Name, head); what != "" {
		return nil, failure.Reading(file.Name, errors.New(what))
	}
	body := head[file.Data:]
	if whole {
		body = c.Dialect.Unmarked(body)
	}
	if err := foreign(body); err != nil {
		return nil, failure.Reading(file.Name, err)
	}
	return body, nil
}

// noteFile tells the user how a file is decoded, and that a load of it cannot be resumed. named
// says that the user named the encoding.
func (d *Dataset) noteFile(file *File, named bool) {
	if what := strings.TrimSpace(file.Form + " " + file.Encoding); what != "" {
		how := " (by its content)"
		if named {
			how = ""
		}
		d.note(fmt.Sprintf("%s is %s%s", file.Base(), what, how))
	}
	switch {
	case file.Name == Stdin:
		d.note("standard input cannot be read twice: this load cannot be resumed after a stop")
	case file.Once:
		d.note(fmt.Sprintf("the query of %s may hold credentials and is not stored: this load cannot be resumed after a stop", file.Base()))
	}
}

// firstError returns why the fields of the first record cannot be told, or nil.
func firstError(body []byte, whole bool, d csv.Dialect) error {
	s := csv.Scanner{Dialect: d, Buf: body, EOF: whole}
	if !s.Skip(1, math.MaxInt) {
		return nil
	}
	_, _, err := d.Fields(body[:s.At], nil, nil)
	return fieldsError(err, body[:s.At], d)
}

// fieldsError returns an error of Fields for a record with the flags that may help.
func fieldsError(err error, record []byte, d csv.Dialect) error {
	if err == nil || errors.Is(err, csv.ErrMark) || errors.Is(err, csv.ErrEscape) {
		return err
	}
	if d.Escape == 0 && bytes.Contains(record, []byte{'\\', d.Quote}) {
		return fmt.Errorf(`%w; --escape '\' reads a quote after a backslash as text, --quote none reads all quotes as text`, err)
	}
	return fmt.Errorf("%w; --quote none reads quotes as text, --quote and --escape set other characters", err)
}

// head returns the beginning of a file. It reads more until enough is satisfied, at most the
// maximum size of a record.
func (c *spec) head(ctx context.Context, f *Request, file *File, enough func(head []byte, whole bool) (bool, error)) (head []byte, whole bool, err error) {
	for size := headBytes; ; size = c.MaxRecord + headBytes {
		if head, whole, err = f.Input.head(ctx, file, size); err != nil {
			return nil, false, err
		}
		if ok, err := enough(head, whole); ok || err != nil || whole || size > headBytes {
			return head, whole, err
		}
	}
}

// oneField reports whether records have one field.
func (c *spec) oneField() bool { return len(c.sample) == 0 || len(c.sample[0]) < 2 }

// foreign recognises a file that is not CSV by its first bytes, and returns an error that names
// its format.
func foreign(body []byte) error {
	text := bytes.ToLower(bytes.TrimLeft(body[:min(len(body), 512)], " \t\r\n"))
	switch {
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<head")):
		return errors.New("is an HTML page, not CSV; a server may have sent it instead of the file, perhaps to log in")
	case bytes.HasPrefix(text, []byte("<?xml")):
		return errors.New("is XML, not CSV")
	case sepBegin.Match(text):
		return fmt.Errorf("begins with a line for Excel, %s; --skip 1 --delimiter %s reads the records after it", text[:5], flagOf(text[4]))
	case jsonBegin.Match(text):
		return errors.New("is JSON, not CSV; jq -r '[.a, .b] | @csv' converts it")
	}
	return nil
}

// sepBegin is the line in which Excel names the delimiter.
var sepBegin = regexp.MustCompile(`^sep=[,;|\t]\r?\n`)

var jsonBegin = regexp.MustCompile(`^(\{\s*("([^"\\\\]|\\\\.)*"\s*:|\})|\[\s*[{\[])`)

// sampleRecords is the number of records sampled before a load.
const sampleRecords = 1000

// recordBytes returns the mean length of the records at the beginning of a file.
func recordBytes(body []byte, whole bool, d csv.Dialect) int64 {
	s := csv.Scanner{Dialect: d, Buf: body, EOF: whole}
	if !s.Skip(math.MaxInt64, math.MaxInt) {
		return int64(len(body))
	}
	return int64(s.At) / s.Rows
}

// longest returns the bytes of the longest record, and the maximum number of elements that a
// field may have as an array or a JSON document.
func longest(records [][]csv.Field) (length, elements int64) {
	for _, r := range records {
		var n int64
		for _, f := range r {
			n += int64(len(f.Text)) + 1
			elements = max(elements, int64(bytes.Count(f.Text, []byte{','}))+1)
		}
		length = max(length, n)
	}
	return length, elements
}

// estimate returns the approximate number of rows in plain files; zero is unknown.
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
