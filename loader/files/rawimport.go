package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/rows"
)

// asIs finds out whether the server reads the files as this command does. It returns the number
// of records that the server must skip in front of the data, or why it cannot read the files.
func (d *Dataset) asIs(ctx context.Context, o *dataset.Opening) (skip int, why string, err error) {
	c := d.spec
	switch {
	case c.Dialect.Quote != '"' || c.Dialect.Escape != 0 && c.Dialect.Escape != '"':
		return 0, `IMPORT INTO reads only files whose fields are quoted by "; --handoff serve rewrites others`, nil
	case !c.wholeRecords():
		return 0, "IMPORT INTO loads every field of a file, in order; --handoff serve can drop fields", nil
	}
	var first *File // the first file with data
	for i := range c.Files {
		f := &c.Files[i]
		if f.Encoding != "" || f.Form == "zstd" {
			return 0, fmt.Sprintf("IMPORT INTO reads UTF-8, plain or gzip, but %s is %s; --handoff serve rewrites it", f.Base(), strings.TrimSpace(f.Form+" "+f.Encoding)), nil
		}
		head, _, err := d.input.head(ctx, f, int(f.Data)+1)
		if err != nil {
			return 0, "", err
		}
		if int64(len(head)) <= f.Data {
			continue // no rows, whatever is skipped
		}
		n, why := inFront(head[:f.Data], c.Dialect)
		if why != "" {
			return 0, fmt.Sprintf("%s %s; --handoff serve leaves it out", f.Base(), why), nil
		}
		if first == nil {
			first, skip = f, n
		} else if n != skip {
			return 0, fmt.Sprintf("%s has %d records before its data, but %s has %d, and IMPORT INTO skips the same number in each file; --handoff serve drops them", f.Base(), n, first.Base(), skip), nil
		}
	}
	if err := d.readable(ctx); err != nil {
		return 0, "", err
	}
	d.note("IMPORT INTO reads an empty quoted text as NULL, and CRLF within quotes as LF; --handoff serve keeps both")
	return skip, "", nil
}

// readable parses all records. The server that reads the files itself tolerates more: seen on
// 21.1, IMPORT INTO stores bytes that are not UTF-8, and reads on behind a closing quote.
func (d *Dataset) readable(ctx context.Context) error {
	chunk := rows.NewChunk(d.source.Cols)
	spans := d.source.Cut(chunker.Range{End: d.source.Positions()})
	for ctx.Err() == nil {
		span, err := spans.Next(math.MaxInt64)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.source.Fill(chunk, span); err != nil {
			return err
		}
		d.source.Done(span)
	}
	return context.Cause(ctx)
}

// importOptions are the options for files that the server reads unchanged.
func (d *Dataset) importOptions(skip int) []virtual.Option {
	dialect := d.spec.Dialect
	list := []virtual.Option{{Key: "nullif", Value: dialect.Null}}
	if dialect.Delimiter != ',' {
		list = append(list, virtual.Option{Key: "delimiter", Value: string(rune(dialect.Delimiter))})
	}
	if skip > 0 {
		list = append(list, virtual.Option{Key: "skip", Value: fmt.Sprint(skip)})
	}
	return list
}

// Import implements dataset.Dataset.
func (d *Dataset) Import() dataset.Import {
	m := dataset.Import{
		Format: virtual.PGCopy, Refused: d.refuseImport(), OwnKeys: d.keys() != nil, RowBytes: 1,
		Fit: d.source.Fit, Count: d.count, MaxRecordBytes: d.spec.MaxRecord, AsIs: d.asIs, Options: d.importOptions,
	}
	m.Repeats = d.unsureRepeats
	if !m.OwnKeys {
		m.IntoRows = "and the keys that IMPORT makes for rows without one collide with older ones"
	}
	return m
}

// refuseImport returns why IMPORT cannot take the files.
func (d *Dataset) refuseImport() string {
	c := d.spec
	stdin := slices.ContainsFunc(c.Files, func(f File) bool { return f.Name == Stdin })
	if list := notByImport(c.Set, c.Conflict, c.MaxErrors, stdin); len(list) > 0 {
		return list[0]
	}
	return dataset.NotImported(d.table, d.columns())
}

// notByImport returns the settings of a load of files that IMPORT does not take.
func notByImport(set []commit.Assignment, c commit.Conflict, t Tolerance, stdin bool) (list []string) {
	for _, x := range []struct {
		given bool
		flag  string
	}{{len(set) > 0, "--set"}, {c != "", "--on-conflict"}, {!t.none(), "--max-errors"}} {
		if x.given {
			list = append(list, fmt.Sprintf(dataset.NotByImport, x.flag))
		}
	}
	if stdin {
		list = append(list, "the server may read a file twice, and standard input cannot be read again")
	}
	return list
}

// count counts the records of a range of the files.
func (d *Dataset) count(ctx context.Context, r chunker.Range) (int64, error) {
	spans := d.source.Cut(r)
	var n int64
	for {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		span, err := spans.Next(1 << 20)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += span.Rows
		d.source.Done(span)
	}
}

// inFront returns the number of records that the server must skip to reach the end of front, or
// why it cannot. Seen on 21.1: it counts records, and its reader knows neither blank records
// nor ends of lines other than LF and CRLF.
func inFront(front []byte, d csv.Dialect) (n int, why string) {
	body := front[Skipped(front, 0, d):]
	if len(body) == 0 && len(front) > 0 {
		return 0, "begins with a byte order mark, which IMPORT INTO reads as data"
	}
	s := csv.Scanner{Dialect: d, Buf: body, EOF: true}
	for at := 0; at < len(body); at = s.At {
		if !s.Skip(s.Rows+1, math.MaxInt) {
			return 0, "has an unclosed quote before its data, and IMPORT INTO would read on"
		}
		record := body[at:s.At]
		if bytes.HasSuffix(record, []byte{'\r'}) {
			return 0, "has a line before its data that ends with CR, and IMPORT INTO would read on"
		}
		if len(bytes.Trim(record, "\r\n")) > 0 {
			n++
		}
	}
	return n, ""
}
