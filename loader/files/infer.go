package files

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// A guess is a type that a column of text may have, with its name on each server.
type guess struct {
	cockroach, postgres string
	fits                func(string) bool
}

func matches(pattern string) func(string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString
}

const (
	datePattern = `\d{4}-\d\d-\d\d`
	timePattern = `\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?`
)

// guesses are tried in order; the first that fits every value of a column is its type.
// Numbers with leading zeros stay text: they are names, not amounts.
var guesses = []guess{
	{"BOOL", "BOOLEAN", matches(`true|false|TRUE|FALSE|True|False|t|f`)},
	{"INT8", "BIGINT", func(s string) bool {
		_, err := strconv.ParseInt(s, 10, 64)
		return err == nil && !leadingZero(s) && s[0] != '+'
	}},
	{"DECIMAL", "NUMERIC", func(s string) bool {
		return matchesDecimal(s) && !leadingZero(s)
	}},
	{"FLOAT8", "DOUBLE PRECISION", func(s string) bool {
		_, err := strconv.ParseFloat(s, 64)
		return err == nil && !leadingZero(s) && !strings.ContainsAny(s, "xXpP_")
	}},
	{"DATE", "DATE", matches(datePattern)},
	{"TIMESTAMP", "TIMESTAMP", matches(datePattern + `[ T]` + timePattern)},
	{"TIMESTAMPTZ", "TIMESTAMPTZ", matches(datePattern + `[ T]` + timePattern + `(?:Z|[+-]\d\d(?::?\d\d)?)`)},
	{"UUID", "UUID", matches(`[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)},
}

var matchesDecimal = matches(`[+-]?\d{1,30}(?:\.\d{1,30})?`)

func leadingZero(s string) bool {
	s = strings.TrimLeft(s, "+-")
	return len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9'
}

// inferred returns the CREATE TABLE of a table that fits the first records, and its
// columns.
func (c *spec) inferred(p server.Product, name pgx.Identifier, fields []string, dropped map[int]bool, key []string) (string, []server.Column) {
	var defs []string
	var columns []server.Column
	for i, field := range fields {
		if dropped[i] {
			continue
		}
		t := c.typeOf(i, p)
		defs = append(defs, pgx.Identifier{field}.Sanitize()+" "+t)
		columns = append(columns, server.Column{Name: field, Type: strings.ToLower(t), SQLType: t, NotNull: slices.Contains(key, field)})
	}
	if len(key) > 0 {
		quoted := make([]string, len(key))
		for i, k := range key {
			quoted[i] = pgx.Identifier{k}.Sanitize()
		}
		defs = append(defs, "PRIMARY KEY ("+strings.Join(quoted, ", ")+")")
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s)", name.Sanitize(), strings.Join(defs, ", ")), columns
}

// typeOf returns the type of field i.
func (c *spec) typeOf(i int, p server.Product) string {
	for _, g := range guesses {
		any, all := false, true
		for _, r := range c.sample {
			if i >= len(r) || r[i].Null {
				continue
			}
			if any = true; len(r[i].Text) == 0 || !g.fits(string(r[i].Text)) {
				all = false
				break
			}
		}
		if any && all {
			if p == server.CockroachDB {
				return g.cockroach
			}
			return g.postgres
		}
	}
	if p == server.CockroachDB {
		return "STRING"
	}
	return "TEXT"
}

// headerOfNew decides whether files have a header whose table is still to be made, so that
// none of its columns is known by name.
func (c *spec) headerOfNew(f *Request) Header {
	switch {
	case c.header != HeaderAuto:
		return c.header
	case f.Columns == nil || looksLikeHeader(c.sample):
		return HeaderYes
	}
	return HeaderNo
}

// createDDL returns the statement of createFor, and the columns that it makes.
func (c *spec) createDDL(p server.Product, f *Request, name pgx.Identifier) (string, []server.Column, error) {
	if len(c.sample) == 0 {
		return "", nil, &dataset.TableError{Reason: "--create-table needs a file with records"}
	}
	header := c.headerOfNew(f)
	fields := f.Columns
	if header == HeaderYes && fields == nil {
		for _, x := range c.sample[0] {
			fields = append(fields, strings.TrimSpace(string(x.Text)))
		}
	}
	if fields == nil {
		return "", nil, &dataset.TableError{Reason: "--create-table needs names for the columns: a header, or --columns"}
	}
	var columns []string
	dropped := map[int]bool{}
	for i, n := range fields {
		if n == "" {
			return "", nil, &dataset.TableError{Reason: fmt.Sprintf("field %d has no name; --columns names them all", i+1)}
		}
		if to, ok := f.Map[n]; ok {
			n = to
			dropped[i] = to == ""
		}
		columns = append(columns, n)
	}
	for _, k := range f.Key {
		if !slices.Contains(columns, k) {
			return "", nil, &dataset.TableError{Reason: fmt.Sprintf("--key names %s, and the file has %s", quoteIf(k), strings.Join(columns, ", "))}
		}
	}
	with := *c
	if header == HeaderYes {
		with.sample = c.sample[1:]
	}
	create, list := with.inferred(p, name, columns, dropped, f.Key)
	return create, list, nil
}
