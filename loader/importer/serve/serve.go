// Package serve serves virtual files over HTTP, for the database to read: under paths that
// nobody can guess, with nothing on disk.
package serve

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bulkload/loader/failure"
	"bulkload/loader/importer/virtual"
)

// A Secret is the key of the tokens of served files. Whoever has it can read the files while
// they are served.
type Secret []byte

// NewSecret draws a secret.
func NewSecret() Secret {
	b := make(Secret, 20)
	rand.Read(b) // never fails
	return b
}

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// tokenLength is the length of a token: 130 bits in base 32.
const tokenLength = 26

// token returns the unguessable part of a path.
func (s Secret) token(name string) string {
	mac := hmac.New(sha256.New, s)
	io.WriteString(mac, name)
	return strings.ToLower(encoding.EncodeToString(mac.Sum(nil)))[:tokenLength]
}

var tokenPattern = regexp.MustCompile(fmt.Sprintf("^[a-z2-7]{%d}$", tokenLength))

// IsToken reports whether s has the form of a token.
func IsToken(s string) bool { return tokenPattern.MatchString(s) }

// A Server serves virtual files over HTTP to clients that know their paths: GET, HEAD and ranges
// of bytes, and nothing else. Close it after use.
type Server struct {
	secret Secret
	base   string // scheme://host:port
	http   *http.Server
	ended  chan struct{} // closed when the listener has ended

	mu     sync.Mutex // guards the fields below
	texts  map[string]*virtual.File
	probes map[string]chan struct{} // closed when their path was asked for
	fault  error
	failed chan struct{} // closed with the first fault
	// refusing: every request is answered with 404.
	refusing bool
}

// silent drops net/http's messages about connections: they do not concern the user.
var silent = log.New(io.Discard, "", 0)

// Bounds of one connection.
const (
	headerTimeout = 10 * time.Second
	// idleTimeout ends connections without requests, and writeTimeout those whose reader
	// reads nothing. The database reads again from where it stopped.
	idleTimeout    = time.Minute
	writeTimeout   = 5 * time.Minute
	maxHeaderBytes = 16 << 10
)

// Listen begins to listen at addr, a host:port; empty is a free port of the loopback address.
// host is this machine's name in URLs; empty is that of addr. certFile and keyFile turn TLS on.
// Nothing is served before Offer.
func Listen(addr, host, certFile, keyFile string, secret Secret) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	scheme := "http"
	var conf *tls.Config
	if certFile != "" || keyFile != "" {
		pair, err := keyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("serve over TLS: %w", err)
		}
		scheme, conf = "https", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("serve at %s: %w", addr, err)
	}
	own, port, _ := net.SplitHostPort(l.Addr().String())
	if host == "" {
		if host, _, err = net.SplitHostPort(addr); err != nil || host == "" {
			host = own
		}
	}
	s := &Server{
		secret: secret, base: scheme + "://" + net.JoinHostPort(host, port), ended: make(chan struct{}),
		texts: map[string]*virtual.File{}, probes: map[string]chan struct{}{}, failed: make(chan struct{}),
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: silent}
	go func() {
		defer close(s.ended)
		s.http.Serve(l) // ends with Close
	}()
	return s, nil
}

// keyPair reads a certificate and its key. The error is a *failure.FileError.
func keyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, failure.Reading(certFile, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, failure.Reading(keyFile, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	return pair, failure.Reading(certFile, err)
}

// Addr returns the host:port that the server listens at. Another server can take its place
// there.
func (s *Server) Addr() string {
	_, rest, _ := strings.Cut(s.base, "://")
	return rest
}

// Offer serves a text under the given name and returns its URL.
func (s *Server) Offer(name string, t *virtual.File) string {
	path := "/" + s.secret.token(name) + "/" + name
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[path] = t
	return s.base + path
}

// Failed returns a channel that is closed when a text could not be made; Fault then returns the
// reason. The reader's connection breaks.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Fault returns why a text could not be made, or nil.
func (s *Server) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = true
	if s.fault == nil {
		s.fault = err
		close(s.failed)
	}
}

// Refuse ends all transfers and answers every later request with 404. The database asks again and
// again for a file that breaks off, but gives up at once if a file is missing. So its job fails
// within a moment; cancelling it takes half a minute.
func (s *Server) Refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = true
	for _, t := range s.texts {
		t.GiveUp()
	}
}

// Close ends every connection and returns when all have ended.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.ended
	return err
}

// Probe returns the URL of a directory in which nothing is, and a channel that is closed
// when the server asks for something in it.
func (s *Server) Probe(name string) (url string, asked <-chan struct{}) {
	path := "/" + s.secret.token(name) + "/" + name
	seen := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes[path] = seen
	return s.base + path, seen
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	t := s.texts[r.URL.Path]
	if s.refusing {
		t = nil
	}
	for path, seen := range s.probes {
		if strings.HasPrefix(r.URL.Path, path) {
			close(seen)
			delete(s.probes, path)
		}
	}
	s.mu.Unlock()
	switch {
	case t == nil:
		w.Header().Set("Connection", "close")
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Connection", "close")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	default:
		s.serve(w, r, t)
	}
}

// serve answers one request for a file.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, t *virtual.File) {
	h := w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	size, known := t.SizeKnown()
	first, last, ranged := parseRange(r.Header.Get("Range"))
	if ranged {
		// The answer names the size of the whole.
		var err error
		if size, err = t.Size(r.Context()); err != nil {
			s.broken(r.Context(), err)
			return
		}
		known = true
		if last < 0 || last >= size {
			last = size - 1
		}
		if first > last {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		h.Set("Content-Length", strconv.FormatInt(last-first+1, 10))
		w.WriteHeader(http.StatusPartialContent)
	} else if known {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	if r.Method == http.MethodHead {
		return
	}
	out := &response{w: w, control: http.NewResponseController(w), left: -1}
	if ranged {
		out.left = last - first + 1
	}
	if err := t.Write(r.Context(), out, first); err != nil && !errors.Is(err, errEnough) {
		s.broken(r.Context(), err)
	}
}

// broken ends a response in the middle, so that no reader takes it for complete.
func (s *Server) broken(ctx context.Context, err error) {
	var src *virtual.SourceError
	if errors.As(err, &src) && ctx.Err() == nil {
		s.fail(src.Err)
	}
	panic(http.ErrAbortHandler)
}

// parseRange reads a Range header of one range; anything else is as if there were none
// (RFC 9110, 14.2). last is -1 for the end of the file.
func parseRange(text string) (first, last int64, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes=")
	from, to, dash := strings.Cut(text, "-")
	if !ok || !dash {
		return 0, -1, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil || first < 0 {
		return 0, -1, false
	}
	if to == "" {
		return first, -1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	if err != nil || last < first {
		return 0, -1, false
	}
	return first, last, true
}

// errEnough ends the writing of a file when the requested range is written.
var errEnough = errors.New("enough")

// A response writes to a client, which must read something now and then.
type response struct {
	w       io.Writer
	control *http.ResponseController
	left    int64 // bytes still to be written; negative is all
	next    time.Time
	aborted atomic.Bool
}

// Abort ends the running write, and every later one.
func (o *response) Abort() {
	o.aborted.Store(true)
	o.control.SetWriteDeadline(time.Now())
}

func (o *response) Write(b []byte) (int, error) {
	if now := time.Now(); now.After(o.next) {
		// Not for each write: it is a system call.
		o.control.SetWriteDeadline(now.Add(writeTimeout))
		o.next = now.Add(writeTimeout / 10)
		if o.aborted.Load() {
			return 0, context.Canceled
		}
	}
	if o.left < 0 {
		return o.w.Write(b)
	}
	enough := int64(len(b)) >= o.left
	if enough {
		b = b[:o.left]
	}
	n, err := o.w.Write(b)
	o.left -= int64(n)
	if err == nil && enough {
		err = errEnough
	}
	return n, err
}
