package files

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// settle chooses the delimiter where the beginning of the files alone could not: an existing
// table's columns are evidence.
func (c *spec) settle(t *server.Table, f *Request) error {
	list := c.tied
	if len(list) > 1 && t != nil {
		list = slices.DeleteFunc(slices.Clone(list), func(r reading) bool { return !r.takes(t, f) })
	}
	switch {
	case len(c.tied) == 0:
		return nil
	case len(list) != 1:
		return errTie(c.sampled, c.tied)
	}
	c.Dialect.Delimiter = list[0].delimiter
	if c.sample[0] = list[0].records[0]; len(c.tied) > 1 {
		c.sample = list[0].records
		c.Longest, c.Elements = longest(c.sample)
	}
	return nil
}

// guess reports a guess. An unsure guess, one of several possible answers, is also reported in
// quiet mode.
func (d *Dataset) guess(sure bool, text string) {
	d.spec.told = append(d.spec.told, text)
	if sure || d.tell == nil {
		d.note(text)
		return
	}
	d.tell(text)
}

// readHeader decides whether the first record is a header, and names the fields. t is nil while
// there is no table.
func (c *spec) readHeader(ctx context.Context, d *Dataset, t *server.Table) error {
	f := &d.Request
	names := namesOf(c.sample[0])
	c.Width = len(names)
	if err := c.firstIsOdd(f); err != nil {
		return err
	}
	var header Header
	var err error
	if t == nil {
		header, err = c.headerOfNew(f)
	} else {
		header, err = c.headerOf(t, f)
	}
	if err != nil {
		return err
	}
	c.reportGuesses(d, t, header)
	c.header = header
	body := c.sample
	if header == HeaderYes {
		if err := c.skipHeader(ctx, f); err != nil {
			return err
		}
		body = c.sample[1:]
	}
	if err := c.nameFields(t, f, names, body); err != nil {
		return err
	}
	c.sample = body
	c.Guard.Forms = formsOf(sampled(body, c.Width))
	return nil
}

// reportGuesses reports what was guessed about the format of the files.
func (c *spec) reportGuesses(d *Dataset, t *server.Table, header Header) {
	if c.guessed {
		d.guess(len(c.tied) == 1, fmt.Sprintf("delimiter %q (guessed; --delimiter names another)", c.Dialect.Delimiter))
	}
	if c.header == HeaderAuto {
		what := "no header row"
		if header == HeaderYes {
			what = "header row"
		}
		sure := header == HeaderYes && t != nil && d.Request.Columns == nil && c.named(writable(t)) > 0
		d.guess(sure, what+" detected (override with --header yes or no)")
	}
	if !c.Dialect.Text && c.Dialect.Null == "" && slices.ContainsFunc(c.sample, func(r []csv.Field) bool {
		return slices.ContainsFunc(r, func(x csv.Field) bool { return string(x.Text) == `\N` })
	}) {
		d.guess(false, `\N is read as text (--null '\N' reads it as NULL; --format text reads COPY's text format)`)
	}
}

// nameFields names the fields: by --columns, by the header, by the columns of the table or,
// without a table, by number. first holds the first record as names; body is the sample without
// a header.
func (c *spec) nameFields(t *server.Table, f *Request, first []string, body [][]csv.Field) error {
	switch {
	case f.Columns != nil:
		c.names = f.Columns
		switch {
		case c.tails(body, len(f.Columns)) || len(f.Columns) == c.Width:
		case c.header == HeaderYes:
			return dataset.Contradict("--columns names %d fields, but the header has %d: %s", len(f.Columns), c.Width, strings.Join(first, ", "))
		default:
			return dataset.Contradict("--columns names %d fields, but the first record has %d", len(f.Columns), c.Width)
		}
	case c.header == HeaderYes:
		c.names = first
		if first[c.Width-1] == "" && t != nil && c.tails(body, c.Width-1) {
			c.names = first[:c.Width]
		}
	case t == nil:
		for i := range c.Width {
			c.names = append(c.names, fmt.Sprintf("col%d", i+1))
		}
	default:
		c.names = writable(t)
		if !c.tails(body, len(c.names)) && len(c.names) != c.Width {
			return &dataset.TableError{Reason: fmt.Sprintf("the first record has %d fields, but %s has %d columns (%s); --columns names the fields, --header yes reads the names from it, --skip N skips lines before it, --delimiter sets the field separator", c.Width, t.Display(), len(c.names), strings.Join(c.names, ", "))}
		}
	}
	return nil
}

// tails reports whether each record has n fields and one more NULL, because it ends with a
// delimiter. That NULL is not a field.
func (c *spec) tails(body [][]csv.Field, n int) bool {
	if n < 1 || c.Width != n+1 || len(body) == 0 {
		return false
	}
	for _, r := range body {
		if len(r) == c.Width && !r[n].Null {
			return false
		}
	}
	c.Tail, c.Width = true, n
	return true
}

// skipHeader adds the header of every file to the text in front of its records. The headers
// must be the same.
func (c *spec) skipHeader(ctx context.Context, f *Request) error {
	for i := range c.Files {
		file := &c.Files[i]
		end := 0
		head, _, err := c.head(ctx, f, file, func(head []byte, whole bool) (bool, error) {
			s := csv.Scanner{Dialect: c.Dialect, Buf: head[file.Data:], EOF: whole}
			found := s.Skip(1, math.MaxInt)
			end = s.At
			return found, nil
		})
		if err != nil {
			return err
		}
		body := head[file.Data:]
		if end == 0 {
			if len(body) == 0 {
				continue
			}
			return failure.Reading(file.Name, errors.New("its header does not end"))
		}
		text := string(body[:end])
		if trimmed := strings.TrimRight(text, "\r\n"); c.Header == "" {
			c.Header = trimmed
		} else if trimmed != c.Header {
			if file.Order = c.orderOf(body[:end]); file.Order == nil || !f.MaxErrors.none() {
				return failure.Reading(file.Name, fmt.Errorf("has another header than %s; load it separately", c.Files[0].Base()))
			}
		}
		file.Data += int64(end)
	}
	return nil
}

// orderOf returns, for each field of the first file's header, its place in another header; nil
// unless both have the same names, each once.
func (c *spec) orderOf(header []byte) []int {
	fields, _, err := c.Dialect.Fields(header, nil, nil)
	want, got := namesOf(c.sample[0]), namesOf(fields)
	if err != nil || len(got) != len(want) {
		return nil
	}
	var order []int
	for _, n := range want {
		i := slices.Index(got, n)
		if i < 0 || slices.Contains(order, i) {
			return nil
		}
		order = append(order, i)
	}
	return order
}
