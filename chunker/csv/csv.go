// Package csv cuts the text of comma-separated values into records, and records into
// fields. It reads no files: callers hand it buffers.
package csv

import (
	"bytes"
	"errors"
	"fmt"
)

// A Dialect says how a file of comma-separated values is written. A quote is special at the
// beginning of a field only, as in RFC 4180: a field that begins with one ends behind the next
// that is not escaped, and elsewhere a quote is text like any other. An unquoted text that
// equals Null is NULL, a quoted one never is, and a blank line is a record of one empty field.
// LF and CRLF end a record, mixed in one file too. A lone CR does so only with CR.
//
// PostgreSQL's COPY … (FORMAT csv) reads the same, but where a quote stands within a field:
// there it opens and closes too. Scanner.Stray tells such texts.
type Dialect struct {
	Delimiter byte   // between fields: ',', '\t', …
	Quote     byte   // around fields; zero: nothing is quoted
	Escape    byte   // before a Quote or Escape within quotes; zero is Quote
	Null      string // the unquoted text that is NULL
	CR        bool   `json:",omitempty"` // a lone CR ends a record
}

// Rules is the number of these rules: it changes with the records, fields or values that a
// file is read as. 1 took a quote within a field for the beginning of a quoted part, and a
// lone CR for the end of a record in every file.
const Rules = 2

// Check returns what is wrong with the dialect, or nil.
func (d Dialect) Check() error {
	special := func(b byte) bool { return b == '\n' || b == '\r' || b == 0 || b >= 0x80 }
	switch {
	case special(d.Delimiter):
		return errors.New("the delimiter is one ASCII character, and no end of line")
	case d.Quote != 0 && special(d.Quote), d.Escape != 0 && special(d.Escape):
		return errors.New("quote and escape are one ASCII character, and no end of line")
	case d.Delimiter == d.Quote || d.Delimiter == d.Escape:
		return fmt.Errorf("the delimiter %q cannot be the quote or the escape too", d.Delimiter)
	case d.Quote == 0 && d.Escape != 0:
		return errors.New("an escape works within quotes only, and there is no quote")
	case bytes.ContainsAny([]byte(d.Null), "\r\n") || bytes.IndexByte([]byte(d.Null), d.Delimiter) >= 0 || d.Quote != 0 && bytes.IndexByte([]byte(d.Null), d.Quote) >= 0:
		return fmt.Errorf("the text of NULL, %q, cannot hold the delimiter, the quote or an end of line", d.Null)
	}
	return nil
}
