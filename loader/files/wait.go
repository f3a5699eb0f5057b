package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"bulkload/loader"
)

// A ctxReader makes Read cancellable on any reader. Pipes have no deadlines, so an abandoned
// Read keeps its goroutine until data arrives, on standard input until the process ends.
type ctxReader struct {
	from    io.Reader
	buf     []byte
	left    bytes.Buffer // read but not yet returned
	reading bool         // a goroutine reads into buf
	got     chan got
	err     error // of the last read; returned when left is empty
}

// got is the result of a read.
type got struct {
	n   int
	err error
}

func newCtxReader(r io.Reader) *ctxReader { return &ctxReader{from: r, got: make(chan got, 1)} }

// more reads once, and appends the result to left.
func (p *ctxReader) more(ctx context.Context) error {
	if p.err != nil {
		return p.err
	}
	if !p.reading {
		if p.buf == nil {
			p.buf = make([]byte, headBytes)
		}
		p.reading = true
		go func() {
			n, err := p.from.Read(p.buf)
			p.got <- got{n, err}
		}()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case r := <-p.got:
		p.reading, p.err = false, r.err
		p.left.Write(p.buf[:r.n])
		return nil
	}
}

// peek returns the next n bytes without consuming them; fewer beside an error.
func (p *ctxReader) peek(ctx context.Context, n int) ([]byte, error) {
	for p.left.Len() < n {
		if err := p.more(ctx); err != nil {
			return p.left.Bytes(), err
		}
	}
	return p.left.Bytes()[:n], nil
}

// until returns a reader of the remaining input. Its reads end with ctx and return its cause.
func (p *ctxReader) until(ctx context.Context) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		for p.left.Len() == 0 {
			if p.left.Cap() > 4*headBytes {
				p.left = bytes.Buffer{} // peek grew left beyond the size of one read
			}
			if err := p.more(ctx); err != nil {
				return 0, err
			}
		}
		return p.left.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// defaultIdleTimeout is the default maximum time without data from a server.
const defaultIdleTimeout = 2 * time.Minute

// hungFor returns the error of a disk that has sent nothing for d.
func hungFor(d time.Duration) error {
	return fmt.Errorf("%w: nothing arrived within %v", loader.ErrHung, d)
}

// A silentError is a loader.ErrHung of a server.
type silentError struct{ wait time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("the server has sent nothing for %v", e.wait)
}

func (e *silentError) Unwrap() error { return loader.ErrHung }

// answer returns the result of call, or an error if ctx or the limit ends first. A late result
// goes to late.
func answer[T any](ctx context.Context, limit time.Duration, call func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, hungFor(limit))
	defer cancel()
	got := make(chan result, 1)
	go func() {
		v, err := call()
		got <- result{v, err}
	}()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				late(r.value)
			}
		}()
		var none T
		return none, context.Cause(ctx)
	}
}

// A diskReader reads a file on a disk that may stop answering.
type diskReader struct {
	io.Closer
	in    *ctxReader
	ctx   context.Context
	limit time.Duration
}

func (d *diskReader) Read(b []byte) (int, error) {
	ctx, cancel := context.WithTimeoutCause(d.ctx, d.limit, hungFor(d.limit))
	defer cancel()
	return d.in.until(ctx).Read(b)
}

// An idleTimeoutReader is the body of a server's response. Reading it fails if the server sends
// nothing for too long.
type idleTimeoutReader struct {
	io.ReadCloser
	timeout time.Duration
	timer   *time.Timer // cancels the request
	cause   func() error
	cancel  context.CancelCauseFunc
}

// withIdleTimeout makes a request for a body. Its context ends if the server sends nothing for
// too long; the errors are then that cause.
func withIdleTimeout(ctx context.Context, silence time.Duration, request func(context.Context) (io.ReadCloser, error)) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &idleTimeoutReader{timeout: silence, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	h.timer = time.AfterFunc(silence, func() { cancel(&silentError{silence}) })
	body, err := request(ctx)
	h.timer.Stop()
	if err != nil {
		err = h.reason(err)
		cancel(nil)
		return nil, err
	}
	h.ReadCloser = body
	return h, nil
}

func (h *idleTimeoutReader) reason(err error) error {
	if cause := h.cause(); cause != nil {
		return cause
	}
	return err
}

func (h *idleTimeoutReader) Read(b []byte) (int, error) {
	h.timer.Reset(h.timeout)
	n, err := h.ReadCloser.Read(b)
	h.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = h.reason(err)
	}
	return n, err
}

func (h *idleTimeoutReader) Close() error {
	defer h.cancel(nil)
	return h.ReadCloser.Close()
}
