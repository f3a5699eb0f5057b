package server

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
)

// ErrNoTable is wrapped by the error of Describe if no table has the name.
var ErrNoTable = errors.New("no such table")

// A TargetError reports a name that is not that of a loadable table. Nothing was written. Its
// text is one line.
type TargetError struct {
	Name   string // as formatted by Display
	Reason string // " in database db", "is a view", …
	err    error
}

// ErrorKind implements failure.Kinded.
func (e *TargetError) ErrorKind() failure.Kind { return failure.Target }

func (e *TargetError) Error() string {
	if e.err != nil {
		return e.err.Error() + ": " + e.Name + e.Reason
	}
	return e.Name + " " + e.Reason
}

func (e *TargetError) Unwrap() error { return e.err }

// inDatabase says in which database a table was looked for.
func inDatabase(name string) string {
	if name == "" {
		return "" // the user's
	}
	return " in database " + Display(pgx.Identifier{name})
}

func noTable(name pgx.Identifier, hint string) error {
	return &TargetError{Name: Display(name), Reason: hint, err: ErrNoTable}
}

// notTables maps the pg_class.relkind of relations that accept no rows to the reason.
var notTables = map[string]string{
	"v": "is a view without an INSTEAD OF INSERT trigger; name the table under it",
	"m": "is a materialized view, which is filled by REFRESH; name the table under it",
	"f": "is a foreign table; load into the table on its own server",
	"S": "is a sequence, not a table",
	"i": "is an index, not a table",
	"I": "is an index, not a table",
	"c": "is a type, not a table",
}

// maxPostgresName is the maximum length of a name on PostgreSQL in bytes; longer names are
// truncated (NAMEDATALEN-1, src/include/pg_config_manual.h). CockroachDB has no limit.
const maxPostgresName = 63

// ParseTable parses a table name as written in SQL: table, schema.table or
// database.schema.table, each part plain or in double quotes, with "" for a quote. A plain
// part is lower-cased, A to Z only, as in PostgreSQL. It may hold any other character except a
// dot, since names reach SQL only through pgx.Identifier.
func ParseTable(text string) (pgx.Identifier, error) {
	fault := func(what string) (pgx.Identifier, error) {
		return nil, fmt.Errorf("table name %q: %s; write table, schema.table, or \"any name\" in double quotes", text, what)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fault("it is not UTF-8")
	}
	var parts pgx.Identifier
	for rest := text; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			var closed bool
			if part, rest, closed = cutQuoted(rest); !closed {
				return fault("a quote is not closed")
			}
		} else {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				i = len(rest)
			}
			part, rest = lowerASCII(rest[:i]), rest[i:]
		}
		if part == "" {
			return fault("a part is empty")
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		if rest[0] != '.' {
			return fault("there is text after a closing quote")
		}
		rest = rest[1:]
	}
	if len(parts) > 3 {
		return fault(fmt.Sprintf("it has %d parts, at most database.schema.table", len(parts)))
	}
	return parts, nil
}

// cutQuoted cuts a quoted name from the start of text; "" in it stands for a quote.
func cutQuoted(text string) (name, rest string, closed bool) {
	var b strings.Builder
	for i := 1; ; {
		j := strings.IndexByte(text[i:], '"')
		if j < 0 {
			return "", text, false
		}
		b.WriteString(text[i : i+j])
		i += j + 1
		if !strings.HasPrefix(text[i:], `"`) {
			return b.String(), text[i:], true
		}
		b.WriteByte('"')
		i++
	}
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// cutName truncates a name to at most 63 bytes at a character boundary.
func cutName(s string) string {
	if len(s) <= maxPostgresName {
		return s
	}
	n := maxPostgresName
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// Display formats a name for people. A part is quoted only if it has characters other than
// lower-case letters, digits and underscores. For SQL use Sanitize.
func Display(name pgx.Identifier) string {
	parts := make([]string, len(name))
	for i, p := range name {
		parts[i] = p
		if !plainName.MatchString(p) {
			parts[i] = pgx.Identifier{p}.Sanitize()
		}
	}
	return strings.Join(parts, ".")
}
