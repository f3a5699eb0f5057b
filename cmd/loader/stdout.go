package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// A stdoutWriter is stdout, with what a terminal would act on made printable. It keeps the
// first error of a write, so that a result that did not arrive, on a full disk or in a
// closed pipe, is not taken for one that did.
type stdoutWriter struct {
	*os.File
	err error
}

func (o *stdoutWriter) Write(b []byte) (int, error) {
	text := b
	if bytes.IndexFunc(b, hidden) >= 0 {
		text = []byte(printable(string(b)))
	}
	if _, err := o.File.Write(text); err != nil {
		if o.err == nil {
			o.err = err
		}
		return 0, err
	}
	return len(b), nil
}

// WriteString is Write, for io.WriteString.
func (o *stdoutWriter) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

// printJSON writes v to stdout as one line. That it was not written is told at the end, as
// of all that stdout does not take.
func (p *program) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, string(b))
	return nil
}

// failed returns the error that says that the result was not written.
func (o *stdoutWriter) failed() error {
	if o.err == nil {
		return nil
	}
	return &writeError{fmt.Errorf("the result could not be written: %w", o.err)}
}

// A writeError says that a load is in, but not what it has to say: resuming it says that
// again.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// printable returns text for a terminal: control characters, which may come from a file's
// header, a row or a server's message, are written as Go does in quotes.
func printable(text string) string {
	if strings.IndexFunc(text, hidden) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// hidden holds for what a terminal acts on, or shows in another order than it is.
func hidden(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}
