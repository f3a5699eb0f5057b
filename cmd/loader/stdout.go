package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// A streamWriter is stdout or stderr, with what a terminal would act on made printable. It keeps
// the first error of a write, so that a result that did not arrive, on a full disk or in a
// closed pipe, is not taken for one that did. It is safe for concurrent use.
type streamWriter struct {
	*os.File
	raw bool // the writers make what they write printable

	mu  sync.Mutex // guards err
	err error
}

func (o *streamWriter) Write(b []byte) (int, error) {
	text := b
	if !o.raw && bytes.IndexFunc(b, hidden) >= 0 {
		text = []byte(printable(string(b)))
	}
	if _, err := o.File.Write(text); err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
		return 0, err
	}
	return len(b), nil
}

// WriteString is Write, for io.WriteString.
func (o *streamWriter) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

// printJSON has v printed to stdout at the end of the command, with the error that it ends
// with, if any, in the same document.
func (p *program) printJSON(v any) error {
	b, err := json.Marshal(v)
	p.document = b
	return err
}

// errorJSON is what a document has of the error that a command ends with.
type errorJSON struct {
	Error  string `json:"error"`
	Code   int    `json:"exit_code"`
	Resume string `json:"resume,omitempty"`
}

// printDocument prints the document, if there is one, and what is said of an error. A document
// that is a list stays as it is: the error is on stderr alone.
func (p *program) printDocument(failed *errorJSON) {
	b := bytes.TrimSpace(p.document)
	p.document = nil
	if failed != nil && !bytes.HasPrefix(b, []byte("[")) {
		if len(b) == 0 {
			b = []byte("{}")
		}
		more, _ := json.Marshal(failed)
		b, _ = json.Marshal(joined{json.RawMessage(b), json.RawMessage(more)})
	}
	if len(b) > 0 {
		fmt.Fprintln(p.stdout, string(b))
	}
}

// failed returns the error that says that what was written did not arrive.
func (o *streamWriter) failed(what string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return &writeError{fmt.Errorf("the %s could not be written: %w", what, o.err)}
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
