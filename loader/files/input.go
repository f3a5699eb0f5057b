package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkload/loader"
	"bulkload/loader/failure"
)

// An Input opens the files of a load. It buffers the beginning of Stdin, so that Inspect can look
// at it before the load reads it. It is not safe for concurrent use, with two exceptions: different
// files may be opened at the same time, and the readers that Open returned may be read at the same
// time. A read that waits for a pipe or a network ends with the context of the call, also a read
// of Open's reader.
type Input struct {
	// IdleTimeout is the maximum time without data from a server or a disk. Zero is
	// defaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxErrors and MaxRecordBytes, if set, replace the recorded values of a resumed load.
	MaxErrors      *Tolerance
	MaxRecordBytes int

	stdin *ctxReader
}

// idleTimeout returns IdleTimeout or its default. in may be nil.
func (in *Input) idleTimeout() time.Duration {
	if in == nil || in.IdleTimeout <= 0 {
		return defaultIdleTimeout
	}
	return in.IdleTimeout
}

// headBytes is the size of the beginning of a file that shows its form. It mostly covers more
// than the first records.
const headBytes = 64 << 10

// NewInput returns an Input that reads Stdin from r.
func NewInput(r io.Reader) *Input { return &Input{stdin: newCtxReader(r)} }

// Inspect inspects the named files and assigns their positions, one file after the other.
// charset names their encoding; empty is UTF-8, or the encoding of a byte order mark.
func (in *Input) Inspect(ctx context.Context, names []string, charset string) ([]File, error) {
	if charset != "" {
		if _, err := encodingOf(charset); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(names))
	at := int64(0)
	for i, name := range names {
		f := &files[i]
		*f = File{Name: name, Encoding: charset, Bytes: -1, Once: name == Stdin}
		if isURL(name) {
			if err := f.splitURL(); err != nil {
				return nil, err
			}
		}
		head, err := in.peek(ctx, f)
		if err != nil {
			return nil, err
		}
		if what := archive(name, head); what != "" {
			return nil, failure.Reading(name, errors.New(what))
		}
		f.Form = form(head)
		if f.Encoding == "" && f.Form == "" {
			f.Encoding = marked(head)
		}
		if e, _ := encodingOf(f.Encoding); e == nil {
			f.Encoding = ""
		}
		f.Stream = f.Stream || f.Form != "" || f.Encoding != ""
		f.First, f.Size = at, f.Bytes
		if f.Stream {
			f.Size = StreamSpace
		}
		if at += f.Size; at < 0 || at > 1<<62 {
			return nil, failure.Reading(name, errors.New("too many files for one load"))
		}
	}
	if err := sameFiles(names); err != nil { // all of which have answered
		return nil, err
	}
	return files, nil
}

// shown returns a name for messages, without an address's credentials.
func shown(name string) string {
	if !isURL(name) {
		return name
	}
	u, err := url.Parse(name)
	if err != nil {
		return "the address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// splitURL moves the query out of the name.
func (f *File) splitURL() error {
	u, err := url.Parse(f.Name)
	name, query, _ := strings.Cut(f.Name, "?")
	switch {
	case err != nil || u.Host == "":
		f.Name = "the address"
		return failure.Reading(f.Name, errors.New("is not a URL"))
	case u.User != nil:
		return failure.Reading(shown(f.Name), errors.New("addresses with a user and password are not supported; fetch the file with another tool and pipe it in: … | loader csv -"))
	}
	f.Name, f.query = name, query
	f.Once = query != ""
	return nil
}

// peek reads the beginning of a stored file, and its identity.
func (in *Input) peek(ctx context.Context, f *File) ([]byte, error) {
	switch {
	case f.Name == Stdin:
		f.Stream = true
		head, err := in.stdin.peek(ctx, headBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, failure.Reading(Stdin, err)
		}
		return head, nil
	case isURL(f.Name):
		f.Stream = true
		body, err := in.get(ctx, f)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		head, err := io.ReadAll(io.LimitReader(body, headBytes))
		if err != nil {
			return nil, failure.Reading(f.Name, err)
		}
		return head, nil
	}
	// A mount that is gone answers no call.
	now := *f // an abandoned call still writes to it
	head, err := answer(ctx, in.idleTimeout(), func() ([]byte, error) { return peekPlain(&now) }, func([]byte) {})
	if errors.Is(err, loader.ErrHung) {
		err = failure.Reading(f.Name, err)
	}
	if err != nil {
		return nil, err
	}
	*f = now
	return head, nil
}

// peekPlain implements peek for a plain file.
func peekPlain(f *File) ([]byte, error) {
	info, err := os.Stat(f.Name) // opening a pipe would wait for its writer
	switch {
	case err != nil:
		return nil, failure.Reading(f.Name, err)
	case info.IsDir():
		return nil, failure.Reading(f.Name, errors.New("is a directory; name its files, or a pattern such as "+filepath.Join(f.Base(), "*.csv")))
	case !info.Mode().IsRegular():
		return nil, failure.Reading(f.Name, errors.New("is not a regular file; pipe it in: … | loader csv -"))
	}
	file, err := os.Open(f.Name)
	if err != nil {
		return nil, failure.Reading(f.Name, err)
	}
	defer file.Close()
	f.Bytes, f.Modified = info.Size(), info.ModTime().UTC()
	if f.Hash, err = sample(file, f.Bytes); err != nil {
		return nil, failure.Reading(f.Name, err)
	}
	head := make([]byte, min(headBytes, f.Bytes))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, failure.Reading(f.Name, err)
	}
	return head, nil
}

// Open returns the decoded bytes of a file, from its beginning. The caller closes it.
func (in *Input) Open(ctx context.Context, f *File) (io.ReadCloser, error) {
	var stored io.ReadCloser
	switch {
	case f.Name == Stdin:
		stored = io.NopCloser(in.stdin.until(ctx))
	case isURL(f.Name):
		body, err := in.get(ctx, f)
		if err != nil {
			return nil, err
		}
		stored = body
	default:
		file, err := answer(ctx, in.idleTimeout(), func() (*os.File, error) { return os.Open(f.Name) }, func(late *os.File) { late.Close() })
		if err != nil {
			return nil, failure.Reading(f.Name, err)
		}
		stored = &diskReader{file, newCtxReader(file), ctx, in.idleTimeout()}
	}
	r, err := decode(stored, f)
	if err != nil {
		stored.Close()
		return nil, failure.Reading(f.Name, err)
	}
	return r, nil
}

// get requests a file from a server. The first request stores the file's identity in f.
func (in *Input) get(ctx context.Context, f *File) (io.ReadCloser, error) {
	body, err := withIdleTimeout(ctx, in.idleTimeout(), func(ctx context.Context) (io.ReadCloser, error) { return request(ctx, f) })
	if err != nil {
		return nil, failure.Reading(f.Name, err)
	}
	return body, nil
}

func request(ctx context.Context, f *File) (io.ReadCloser, error) {
	address := f.Name
	if f.query != "" {
		address += "?" + f.query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	// A compressed transfer would hide the file's own length.
	req.Header.Set("Accept-Encoding", "identity")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, errors.Unwrap(err) // without the address, which may hold credentials
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("the server answers %s", res.Status)
	}
	modified, _ := http.ParseTime(res.Header.Get("Last-Modified"))
	tag := res.Header.Get("ETag")
	if f.Bytes < 0 && f.Hash == "" && f.Modified.IsZero() {
		f.Bytes, f.Modified, f.Hash = res.ContentLength, modified, tag
	} else if f.Bytes != res.ContentLength || !f.Modified.Equal(modified) || f.Hash != tag {
		res.Body.Close()
		return nil, ErrChanged
	}
	return res.Body, nil
}

// head returns the first decoded bytes of a file, up to max, and whether they are the whole file.
// Stdin can still be read from its beginning afterwards.
func (in *Input) head(ctx context.Context, f *File, max int) (head []byte, whole bool, err error) {
	var r io.ReadCloser
	ended := false // stdin ended within its buffered beginning
	if f.Name == Stdin {
		stored, err := in.stdin.peek(ctx, max)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return nil, false, failure.Reading(Stdin, err)
		}
		if r, err = decode(io.NopCloser(bytes.NewReader(stored)), f); err != nil {
			return nil, false, failure.Reading(Stdin, err)
		}
	} else if r, err = in.Open(ctx, f); err != nil {
		return nil, false, err
	}
	defer r.Close()
	head, err = io.ReadAll(io.LimitReader(r, int64(max)))
	switch {
	case err == nil:
		// The buffered beginning of stdin may be cut anywhere.
		return head, len(head) < max && (f.Name != Stdin || ended), nil
	case len(head) > 0:
		return head, false, nil // the load reports later errors when it reaches them
	}
	return nil, false, failure.Reading(f.Name, err)
}
