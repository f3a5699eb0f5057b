package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Bounds of Again: a fault of the network is given a few attempts, a server that says
// that it is starting or full some seconds.
const (
	againAttempts = 4
	againWait     = 10 * time.Second
)

// Again calls fn, which opens something and may safely be called twice, until it
// succeeds or fails for a reason that does not pass: a connection that breaks while a
// load is being opened costs an attempt, not the load. It waits no more than some
// seconds, for nothing has been written yet and the user is there.
func Again(ctx context.Context, fn func() error) error {
	start := time.Now()
	for attempt, wait := 1, 20*time.Millisecond; ; attempt, wait = attempt+1, min(2*wait, time.Second) {
		err := fn()
		if err == nil || ctx.Err() != nil || !passes(err) {
			return err
		}
		code := Code(err)
		busy := code == "57P03" || code == "53300"
		if busy && time.Since(start) > againWait || !busy && attempt >= againAttempts {
			return err
		}
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// passes reports whether an error is the server's or the network's own, and may be gone
// at the next attempt. Errors of this project without either in their chain do not.
func passes(err error) bool {
	if Code(err) != "" {
		c := Classify(err)
		return c == Retry || c == Uncertain
	}
	// Another address or certificate would help, more likely than another moment.
	if isCertificate(err) || isAlert(err) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return false
	}
	var network net.Error
	var connect *pgconn.ConnectError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	}
	return errors.As(err, &network) || errors.As(err, &connect) || pgconn.Timeout(err) || errors.Is(err, pgconn.ErrConnClosed)
}

// Failed returns err, of a database call, behind the step that failed: its text is
// Reason's, and errors.As finds what the server said.
func Failed(step string, err error) error { return fmt.Errorf("%s: %w", step, Reasoned(err)) }

// Reasoned returns err, of a database call, with the text of Reason. errors.As and errors.Is
// find what they find in err.
func Reasoned(err error) error { return &reasoned{err} }

type reasoned struct{ err error }

func (r *reasoned) Error() string { return Reason(r.err) }
func (r *reasoned) Unwrap() error { return r.err }
