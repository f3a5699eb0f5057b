package files

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
)

// A load can be resumed with a changed file if the file still has all committed chunks,
// unchanged and in order, at any position. The text between them is loaded. The recorded hashes
// identify the chunks.

// maxAnchor bounds the part of the first line that an anchor hashes, in bytes.
const maxAnchor = 4096

// Hash implements rows.Hasher: the number of bytes and lines of the chunk, the hash of its
// text, and the anchor, a hash of its first line, by which a search finds it.
func (o *origin) Hash() string {
	if int64(len(o.raw)) > int64(o.src.maxRecord()) && o.span.Rows == 1 {
		return "" // the rest of an unclosed record was not read
	}
	sum := sha256.Sum256(o.raw)
	return fmt.Sprintf("%d %d %s %s", len(o.raw), o.src.Dialect.CountLines(o.raw), hex.EncodeToString(sum[:16]), anchor(firstLine(o.raw)))
}

// firstLine returns the first line of text, at most maxAnchor bytes.
func firstLine(text []byte) []byte {
	text = text[:min(len(text), maxAnchor)]
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i+1]
	}
	return text
}

func anchor(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:8])
}

// A hashed chunk is the parsed result of Hash.
type hashed struct {
	bytes, lines int64
	hash, anchor string
}

func parseHashed(text string) (h hashed, err error) {
	parts := strings.Fields(text)
	if len(parts) != 4 {
		return h, errors.New("the hash of a chunk does not parse")
	}
	h.hash, h.anchor = parts[2], parts[3]
	h.bytes, err = strconv.ParseInt(parts[0], 10, 64)
	if err == nil {
		h.lines, err = strconv.ParseInt(parts[1], 10, 64)
	}
	return h, err
}

// Reads implements dataset.Reader: it reports whether the recorded load has one of the files.
func (d *Dataset) Reads(record json.RawMessage) (name string, yes bool) {
	var r specRecord
	if json.Unmarshal(record, &r) != nil || r.CSV == nil {
		return "", false
	}
	for _, f := range r.CSV.Files {
		if f.Name != Stdin && slices.ContainsFunc(d.spec.Files, func(x File) bool { return x.Name == f.Name }) {
			return f.Base(), true
		}
	}
	return "", false
}

// Mend implements dataset.Mender.
func (d *Dataset) Mend(ctx context.Context, o *dataset.Opening, in []dataset.Committed) (moved []dataset.Committed, err error) {
	d.begin(o)
	ctx, done := loader.WithStop(ctx, o.Stop)
	defer done()
	was := d.spec.Files
	now := make([]File, len(was))
	at := int64(0)
	for i := range was {
		f := &now[i]
		*f = File{Name: was[i].Name, Encoding: was[i].Encoding, Data: was[i].Data, Stream: was[i].Stream, Bytes: -1}
		head, err := d.input.peek(ctx, f)
		if err != nil {
			return nil, err
		}
		if f.Form = form(head); f.Form != was[i].Form {
			return nil, failure.Reading(f.Name, fmt.Errorf("%w: its compression differs", ErrChanged))
		}
		f.First, f.Size = at, f.Bytes
		if f.Stream = was[i].Stream; f.Stream {
			f.Size = StreamSpace
		}
		at += f.Size
		var list []dataset.Committed
		for len(in) > 0 && in[0].First < was[i].End() {
			if in[0].End > was[i].End() {
				return nil, failure.Reading(f.Name, fmt.Errorf("%w: a loaded chunk reaches beyond its end; resume with the original files", ErrChanged))
			}
			list, in = append(list, in[0]), in[1:]
		}
		found, err := d.find(ctx, &was[i], f, list)
		if err != nil {
			return nil, err
		}
		moved = append(moved, found...)
	}
	d.spec.Files = now
	return moved, nil
}

// find finds the chunks of a file in the changed file.
func (d *Dataset) find(ctx context.Context, was, now *File, list []dataset.Committed) (moved []dataset.Committed, err error) {
	body, err := d.input.Open(ctx, now)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	s := &search{in: bufio.NewReaderSize(body, headBytes), ctx: ctx, line: 1, dialect: d.spec.Dialect}
	changed := func(format string, args ...any) error {
		return failure.With(failure.Refused, failure.Reading(now.Name, fmt.Errorf("%w: %s", ErrChanged, fmt.Sprintf(format, args...))))
	}
	// The header is at its old place.
	head, err := s.take(was.Data)
	if err != nil {
		return nil, failure.Reading(now.Name, err)
	}
	text := strings.TrimRight(string(head), "\r\n")
	if int64(len(head)) < was.Data || was.Data > 0 && d.spec.Header != "" && (!endsLine(head) || !strings.HasSuffix(text, d.spec.Header)) {
		return nil, changed("its header differs")
	}
	for i, c := range list {
		h, err := parseHashed(c.Hash)
		if err != nil {
			return nil, err
		}
		line := s.line
		switch found, err := s.find(h); {
		case err != nil:
			return nil, failure.Reading(now.Name, err)
		case !found && c.Open:
			return nil, changed("%s, which may be loaded, are missing or changed; resume with the original file, and with --max-errors to set its bad records aside", linesFrom("", line, h.lines, i == 0 || list[i-1].End == c.First))
		case !found:
			return nil, changed("the %s are missing or changed", linesFrom("loaded ", line, h.lines, i == 0 || list[i-1].End == c.First))
		}
		start := s.at - h.bytes
		// The former end of the file has an end of line now.
		if err := s.passEnd(); err != nil {
			return nil, failure.Reading(now.Name, err)
		}
		end := s.at
		to := chunker.Range{First: now.First + start, End: now.First + end}
		if start == was.Data {
			to.First = now.First
		}
		rawWas := c.First
		if c.First == was.First {
			rawWas += was.Data
		}
		moved = append(moved, dataset.Committed{Range: to, Hash: c.Hash, Records: c.Records, Shift: now.First + start - rawWas})
	}
	// The last span of a stream covers the unused rest of its space.
	rest, err := s.peek(1)
	if err != nil {
		return nil, failure.Reading(now.Name, err)
	}
	if n := len(moved); now.Stream && len(rest) == 0 && n > 0 {
		moved[n-1].End = now.End()
	}
	return moved, nil
}

// linesFrom names n lines that were searched from a line on: exactly there, or somewhere after it.
func linesFrom(kind string, line, n int64, there bool) string {
	if n = max(n, 1); there {
		return fmt.Sprintf("%slines %d to %d", kind, line, line+n-1)
	}
	return fmt.Sprintf("%d %slines after line %d", n, kind, line-1)
}

func endsLine(text []byte) bool {
	return bytes.HasSuffix(text, []byte("\n")) || bytes.HasSuffix(text, []byte("\r"))
}

// A search reads a file once, from its beginning.
type search struct {
	in  *bufio.Reader
	ctx context.Context
	// dialect says whether a carriage return alone ends a line.
	dialect csv.Dialect
	buf     []byte // read but not passed
	at      int64  // number of bytes passed
	line    int64  // line at position at
	// cut says that the last chunk found had no end of line; cr says that it ends with a
	// carriage return.
	cut, cr bool
}

// ends reports whether a record can end behind the next n bytes; line says that they end with a
// line.
func (s *search) ends(n int64, line bool) (bool, error) {
	if line {
		return true, nil
	}
	text, err := s.peek(n + 2)
	behind := text[min(n, int64(len(text))):]
	return len(behind) == 0 || behind[0] == '\n' || behind[0] == '\r' && (s.dialect.CR || len(behind) == 1 || behind[1] == '\n'), err
}

// passEnd passes the end of line that the file has added behind the last chunk found.
func (s *search) passEnd() error {
	text, err := s.peek(2)
	if err != nil || len(text) == 0 {
		return err
	}
	n := int64(0)
	switch {
	case s.cut && bytes.Equal(text, []byte("\r\n")):
		n = 2
	case s.cut, s.cr && text[0] == '\n':
		n = 1
	}
	_, err = s.take(n)
	return err
}

// peek returns the next n bytes, fewer at the end of the file.
func (s *search) peek(n int64) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	for int64(len(s.buf)) < n {
		part := make([]byte, max(n-int64(len(s.buf)), headBytes))
		got, err := io.ReadFull(s.in, part)
		s.buf = append(s.buf, part[:got]...)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return s.buf[:min(n, int64(len(s.buf)))], nil
}

// take passes n bytes and returns them.
func (s *search) take(n int64) ([]byte, error) {
	text, err := s.peek(n)
	s.buf = s.buf[len(text):]
	s.at += int64(len(text))
	s.line += s.dialect.CountLines(text)
	return text, err
}

// find passes the text in front of a chunk, and the chunk. It reports whether the chunk exists.
// A chunk begins with a line.
func (s *search) find(h hashed) (bool, error) {
	for {
		line, err := s.peek(min(h.bytes, maxAnchor))
		if err != nil {
			return false, err
		}
		if anchor(firstLine(line)) == h.anchor {
			text, err := s.peek(h.bytes)
			if err != nil {
				return false, err
			}
			if sum := sha256.Sum256(text); int64(len(text)) == h.bytes && hex.EncodeToString(sum[:16]) == h.hash {
				last := text[max(len(text)-1, 0):]
				line := bytes.Equal(last, []byte("\n")) || s.dialect.CR && endsLine(last)
				whole, err := s.ends(h.bytes, h.bytes == 0 || line)
				if err != nil {
					return false, err
				}
				if whole {
					s.cr = bytes.Equal(last, []byte("\r"))
					s.cut = h.bytes > 0 && !line
					_, err := s.take(h.bytes)
					return true, err
				}
			}
		}
		if next, err := s.pass(); !next || err != nil {
			return false, err
		}
	}
}

// pass passes a line, or the rest of it, and reports whether there was one.
func (s *search) pass() (bool, error) {
	for some := false; ; some = true {
		text, err := s.peek(headBytes)
		if err != nil || len(text) == 0 {
			return some, err
		}
		if n := s.dialect.LineLen(text); endsLine(text[:n]) && (s.dialect.CR || text[n-1] == '\n') {
			_, err := s.take(int64(n))
			return true, err
		}
		if _, err := s.take(int64(len(text))); err != nil {
			return false, err
		}
	}
}
