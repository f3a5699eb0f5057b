package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"bulkload/chunker"
	"bulkload/loader/failure"
)

// A heldSpan is the text of a span of a stream. It is held until the span is committed.
type heldSpan struct {
	span chunker.Span
	data []byte
}

func (s *CSV) hold(span chunker.Span, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[int64]heldSpan{}
	}
	s.held[span.First] = heldSpan{span, data}
}

// A stream is a file that is read once, from its beginning.
type stream struct {
	io.ReadCloser
	cancel context.CancelCauseFunc // ends reads and the opening
	at     int64                   // decoded bytes read so far
	line   int64                   // line at the end of the cut text
}

func (t *stream) Close() error {
	t.cancel(nil)
	if t.ReadCloser == nil {
		return nil // not opened yet
	}
	return t.ReadCloser.Close()
}

func (t *stream) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	t.at += int64(n)
	return n, err
}

// stream returns the stream of file i, reopened if it has read beyond offset.
func (s *CSV) stream(i int, offset int64) (*stream, error) {
	s.mu.Lock()
	old := s.streams[i]
	if s.ended != nil || old != nil && old.at <= offset {
		defer s.mu.Unlock()
		return old, s.ended
	}
	if s.streams == nil {
		s.streams = map[int]*stream{}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	t := &stream{line: 1, cancel: cancel}
	s.streams[i] = t
	s.mu.Unlock()
	if old != nil {
		old.Close()
	}
	// Opening may wait for a server; the lock must stay free meanwhile.
	body, err := s.Input.Open(ctx, &s.Files[i])
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		cancel(nil)
		delete(s.streams, i)
		if s.ended != nil {
			err = s.ended
		}
		return nil, err
	}
	t.ReadCloser = body
	return t, nil
}

// follow makes c read the range: from held text when the range is cut again, otherwise from the
// stream's present position.
func (c *spans) follow(r chunker.Range) {
	c.hold = true
	if c.replayHeld(r) {
		return
	}
	t, err := c.src.stream(c.index, c.base-c.file.First)
	if err != nil {
		c.err = err
		return
	}
	// Skip the text in front of the range; a resumed load skips again.
	buf := make([]byte, headBytes)
	for left := c.base - c.file.First - t.at; left > 0; {
		n, err := io.ReadFull(t, buf[:min(left, int64(len(buf)))])
		t.line += c.src.Dialect.CountLines(buf[:n])
		left -= int64(n)
		switch cause := c.src.interrupted(); {
		case err == nil:
			continue
		case cause != nil:
			c.err = cause
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			c.err = failure.Reading(c.file.Name, fmt.Errorf("%w: it ends after byte %d", ErrChanged, t.at))
		default:
			c.err = failure.Reading(c.file.Name, fmt.Errorf("after byte %d: %w", t.at, err))
		}
		return
	}
	c.line, c.stream = t.line, t
	c.in = io.LimitReader(t, r.End-c.base)
}

// replayHeld makes c read the range from held text, and reports whether that text exists.
func (c *spans) replayHeld(r chunker.Range) bool {
	c.src.mu.Lock()
	defer c.src.mu.Unlock()
	for _, h := range c.src.held {
		if h.span.First > r.First || r.End > h.span.End() {
			continue
		}
		skipped := c.base - h.span.First
		if h.span.First == c.file.First {
			skipped -= c.file.Data
		}
		c.text, c.textAt = h.data[skipped:], c.base
		c.in = bytes.NewReader(c.text)
		c.line = h.span.Line + c.src.Dialect.CountLines(h.data[:skipped])
		return true
	}
	return false
}
