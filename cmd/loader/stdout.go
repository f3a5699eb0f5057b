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

// A streamWriter is stdout or stderr; it makes terminal control characters printable. It keeps
// the first write error, so that a result that a full disk or a closed pipe lost does not count
// as delivered. It is safe for concurrent use.
type streamWriter struct {
	*os.File
	raw bool // the callers make their text printable

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

// printJSON prints v to stdout at the end of the command. The command's error, if any, becomes
// a part of the same document.
func (p *program) printJSON(v any) error {
	b, err := json.Marshal(v)
	p.document = b
	return err
}

// errorJSON is the error of a command in its document.
type errorJSON struct {
	Error  string `json:"error"`
	Code   int    `json:"exit_code"`
	Resume string `json:"resume,omitempty"`
}

// printDocument prints the document, if there is one, with the error in it. A list stays
// unchanged: its error appears only on stderr.
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

// failed returns the error for lost output, or nil.
func (o *streamWriter) failed(what string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return &writeError{fmt.Errorf("the %s could not be written: %w", what, o.err)}
}

// A writeError says that the load is complete but its result was lost. Resuming the load prints
// the result again.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// printable returns text for a terminal. Control characters, which may come from a file's
// header, a row or a server's message, appear as in Go's quoted strings.
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

// hidden reports whether a terminal would act on r, or reorder the text around it.
func hidden(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}
