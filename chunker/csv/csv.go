// Package csv splits comma-separated text into records, and records into fields. It reads no
// files: callers pass buffers. It converts no values, and does not guess the format.
//
// Begin with Dialect, the format; Scanner finds the ends of records, and Dialect.Fields parses
// one record.
package csv

import (
	"bytes"
	"errors"
	"fmt"
)

// A Dialect is the format of a file of comma-separated values. A quote is special only at the
// start of a field, as in RFC 4180: a field that starts with a quote ends after the next
// unescaped quote, and any other quote is ordinary text. An unquoted text equal to Null is
// NULL; a quoted one never is. A blank line is a record of one empty field. LF and CRLF end a
// record, and may be mixed in one file. A lone CR ends a record only if CR is set.
//
// PostgreSQL's COPY … (FORMAT csv) follows the same rules, except for quotes within a field:
// there they open and close quoted parts too. Scanner.Stray reports such text.
type Dialect struct {
	Delimiter byte   // between fields: ',', '\t', …
	Quote     byte   // around fields; zero means no field is quoted
	Escape    byte   // before a Quote or Escape within quotes; zero means Quote
	Null      string // the unquoted text that is NULL
	CR        bool   `json:",omitempty"` // a lone CR ends a record
	// Text is the text format of PostgreSQL's COPY: nothing is quoted, and a backslash escapes
	// the next character, also a delimiter or a line end; \n, \t, \x41 and \101 are characters. A
	// raw field equal to Null is NULL. A line of \. ends the data: see Unmarked.
	Text bool `json:",omitempty"`
}

// Rules returns the version of the rules by which the dialect is read. It changes whenever a
// file is read as other records, fields or values. In version 1 a quote within a field started a
// quoted part, and a lone CR ended a record in every file. The text format came with version 3.
func (d Dialect) Rules() int {
	if d.Text {
		return 3
	}
	return 2
}

// Check returns an error if the dialect is invalid.
func (d Dialect) Check() error {
	special := func(b byte) bool { return b == '\n' || b == '\r' || b == 0 || b >= 0x80 }
	switch {
	case d.Text && (d.Quote != 0 || d.Escape != 0):
		return errors.New("the text format has no quote, and no escape except the backslash")
	case d.Text && (d.Delimiter == '\\' || d.Delimiter == '.' || d.Delimiter >= '0' && d.Delimiter <= '9' || d.Delimiter|0x20 >= 'a' && d.Delimiter|0x20 <= 'z'):
		return fmt.Errorf("the text format cannot have %q as delimiter: it may follow a backslash", d.Delimiter)
	case special(d.Delimiter):
		return errors.New("the delimiter must be one ASCII character, not a line end")
	case d.Quote != 0 && special(d.Quote), d.Escape != 0 && special(d.Escape):
		return errors.New("quote and escape must each be one ASCII character, not a line end")
	case d.Delimiter == d.Quote || d.Delimiter == d.Escape:
		return fmt.Errorf("the delimiter %q cannot also be the quote or the escape", d.Delimiter)
	case d.Quote == 0 && d.Escape != 0:
		return errors.New("an escape needs a quote character")
	case bytes.ContainsAny([]byte(d.Null), "\r\n") || bytes.IndexByte([]byte(d.Null), d.Delimiter) >= 0 || d.Quote != 0 && bytes.IndexByte([]byte(d.Null), d.Quote) >= 0:
		return fmt.Errorf("the text of NULL, %q, cannot contain the delimiter, the quote or a line end", d.Null)
	}
	return nil
}
