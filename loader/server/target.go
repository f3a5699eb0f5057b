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

// ErrNoTable is wrapped by Describe's error when there is no such table.
var ErrNoTable = errors.New("no such table")

// A TargetError says that a name is not that of a table that rows can be loaded
// into. Nothing was written. Its text is one line.
type TargetError struct {
	Name   string // as Display writes it
	Reason string // "no such table", "is a view", …
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

func noTable(name pgx.Identifier, hint string) error {
	return &TargetError{Name: Display(name), Reason: hint, err: ErrNoTable}
}

// notTables says why a relation of a pg_class.relkind takes no rows.
var notTables = map[string]string{
	"v": "is a view without an INSTEAD OF INSERT trigger; name the table under it",
	"m": "is a materialized view, which is filled by REFRESH; name the table under it",
	"f": "is a foreign table; load into the table on its own server",
	"S": "is a sequence, not a table",
	"i": "is an index, not a table",
	"I": "is an index, not a table",
	"c": "is a type, not a table",
}

// maxPostgresName is the most bytes of a name on PostgreSQL, which cuts longer ones
// (NAMEDATALEN-1, src/include/pg_config_manual.h). CockroachDB has no limit.
const maxPostgresName = 63

// ParseTable reads a table name as users write it in SQL: table, schema.table or
// database.schema.table, each part plain or in double quotes, where "" is a quote.
// A plain part is lower-cased, the letters A to Z only, as PostgreSQL does, and may
// else hold anything but a dot: it never becomes SQL but through pgx.Identifier.
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
			return fault("there is something behind a quote")
		}
		rest = rest[1:]
	}
	if len(parts) > 3 {
		return fault(fmt.Sprintf("it has %d parts, at most database.schema.table", len(parts)))
	}
	return parts, nil
}

// cutQuoted cuts a quoted name from the start of text: "" in it is a quote.
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

// cutName cuts a name to at most 63 bytes of whole characters.
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

// Display returns a name for people: quoted only where a part has other characters
// than lower-case letters, digits and underscores. SQL takes Sanitize.
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
