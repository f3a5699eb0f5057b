package load

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/importer"
)

// rawCSV looks whether the server reads the load's files as this command does. It returns
// why not.
func (l *Load) rawCSV(ctx context.Context, s *importer.State) (string, error) {
	c := l.spec.CSV
	switch {
	case c.Dialect.Quote != '"' || c.Dialect.Escape != 0 && c.Dialect.Escape != '"':
		return `IMPORT INTO reads files whose fields are quoted by " and nothing else; --handoff serve rewrites others`, nil
	case !c.wholeRecords():
		return "IMPORT INTO takes every field of a file, in its order; --handoff serve leaves some out", nil
	}
	var first *files.File // that has data
	for i := range c.Files {
		f := &c.Files[i]
		if f.Encoding != "" || f.Form == "zstd" {
			return fmt.Sprintf("IMPORT INTO reads UTF-8, plain or gzip, and %s is %s; --handoff serve rewrites it", f.Base(), strings.TrimSpace(f.Form+" "+f.Encoding)), nil
		}
		head, _, err := l.input.Head(ctx, f, int(f.Data)+1)
		if err != nil {
			return "", err
		}
		if int64(len(head)) <= f.Data {
			continue // whatever is passed over of it, there are no rows
		}
		n, why := inFront(head[:f.Data], c.Dialect)
		if why != "" {
			return fmt.Sprintf("%s %s; --handoff serve leaves it out", f.Base(), why), nil
		}
		if first == nil {
			first, s.Skip = f, n
		} else if n != s.Skip {
			return fmt.Sprintf("%s has %d records in front of its data, and %s has %d, and IMPORT INTO passes over as many of each file; --handoff serve leaves them out", f.Base(), n, first.Base(), s.Skip), nil
		}
	}
	l.Notes = append(l.Notes, "IMPORT INTO takes an empty text in quotes for NULL, and CRLF within quotes for LF; --handoff serve keeps them")
	return "", nil
}

// inFront returns how many records the server is to pass over to be behind front, or why
// it cannot. Seen on 21.1: it counts records, as does its reader, which knows no blank ones
// and no ends of lines but LF and CRLF.
func inFront(front []byte, d csv.Dialect) (n int, why string) {
	body := front[files.Skipped(front, 0):]
	if len(body) == 0 && len(front) > 0 {
		return 0, "begins with a byte order mark, which IMPORT INTO takes for data"
	}
	s := csv.Scanner{Dialect: d, Buf: body, EOF: true}
	for at := 0; at < len(body); at = s.At {
		if !s.Skip(s.Rows+1, math.MaxInt) {
			return 0, "has a quote in front of its data that is not closed there, and IMPORT INTO would read on"
		}
		record := body[at:s.At]
		if bytes.HasSuffix(record, []byte{'\r'}) {
			return 0, "has a line in front of its data that ends with CR, and IMPORT INTO would read on"
		}
		if len(bytes.Trim(record, "\r\n")) > 0 {
			n++
		}
	}
	return n, ""
}
