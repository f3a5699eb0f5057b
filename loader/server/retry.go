package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sethvargo/go-retry"

	"bulkload/loader/failure"
)

// Default bounds of the wait between two attempts.
const (
	firstWait = 10 * time.Millisecond
	lastWait  = 2 * time.Second
)

// A RetryPolicy controls how failed attempts are repeated. The wait doubles from First to
// Last. Each wait is randomized between half of that and the whole, so that clients that
// failed together do not retry together. The zero value is ready for use.
type RetryPolicy struct {
	// First and Last bound the waits; zero means 10 ms and 2 s.
	First, Last time.Duration
	// For is the time after which no further attempt is made; zero means no bound but the
	// context. It counts from Since or, if Since is zero, from the first failure: a long first
	// attempt is no reason to give up.
	For   time.Duration
	Since time.Time
	// Judge reports whether another attempt may succeed; nil means MayPass.
	Judge func(error) bool
}

// MayPass reports whether another attempt may succeed: Classify returns Retry or Uncertain.
func MayPass(err error) bool {
	c := Classify(err)
	return c == Retry || c == Uncertain
}

// Do calls fn, which must be safe to repeat, until it succeeds or the policy ends the series.
// It returns fn's last error, which wraps failure.ErrGaveUp if the time was over, or the error
// of ctx if ctx ended during a wait.
func (p RetryPolicy) Do(ctx context.Context, fn func() error) error {
	if p.Judge == nil {
		p.Judge = MayPass
	}
	w := p.Waits()
	for {
		err := fn()
		if err == nil || ctx.Err() != nil || !p.Judge(err) {
			return err
		}
		if err := w.Wait(ctx, err); err != nil {
			return err
		}
	}
}

// Waits holds the waits of one series of attempts. It is not safe for concurrent use.
type Waits struct {
	policy RetryPolicy
	wait   retry.Backoff
	end    time.Time
}

// Waits starts a series for callers that decide themselves whether to go on. It does not use
// Judge.
func (p RetryPolicy) Waits() *Waits {
	if p.First == 0 {
		p.First = firstWait
	}
	if p.Last == 0 {
		p.Last = lastWait
	}
	// 3/4 of the wait ± 33% of that: from half to the whole.
	wait := retry.WithCappedDuration(p.Last*3/4, retry.NewExponential(p.First*3/4))
	w := &Waits{policy: p, wait: retry.WithJitterPercent(33, wait)}
	if p.For > 0 && !p.Since.IsZero() {
		w.end = p.Since.Add(p.For)
	}
	return w
}

// Wait waits before the next attempt. It returns the error of ctx, or, if the next attempt
// would start too late, an error that wraps failure.ErrGaveUp and err, the failure of the last
// attempt.
func (w *Waits) Wait(ctx context.Context, err error) error {
	next, _ := w.wait.Next()
	now := time.Now()
	if w.policy.For > 0 && w.end.IsZero() {
		w.end = now.Add(w.policy.For)
	}
	if w.policy.For > 0 && now.Add(next).After(w.end) {
		return fmt.Errorf("%w after %s: %w", failure.ErrGaveUp, w.policy.For, err)
	}
	t := time.NewTimer(next)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Bounds of RetryOpening: a few attempts after a network fault, some seconds for a server that
// is starting or has no free connection.
const (
	openingAttempts = 4
	openingWait     = 10 * time.Second
)

// RetryOpening calls fn until it succeeds or fails for a reason that will not pass. fn opens
// something and must be safe to repeat. A connection that breaks while a load is being opened
// thus costs an attempt, not the load. The retries end after a few attempts or some seconds:
// nothing has been written yet, and the user is waiting.
func RetryOpening(ctx context.Context, fn func() error) error {
	start, attempts := time.Now(), 0
	p := RetryPolicy{Judge: func(err error) bool {
		attempts++
		if code := Code(err); code == pgerrcode.CannotConnectNow || code == pgerrcode.TooManyConnections {
			return time.Since(start) <= openingWait
		}
		return passes(err) && attempts < openingAttempts
	}}
	var failed error
	err := p.Do(ctx, func() error { failed = fn(); return failed })
	if err != nil {
		err = failed // also when ctx ended meanwhile
	}
	return err
}

// passes reports whether an error of the server or the network may be gone at the next
// attempt. It returns false for this project's errors that wrap neither.
func passes(err error) bool {
	if Code(err) != "" {
		return MayPass(err)
	}
	var command *PasswordError
	if errors.As(err, &command) {
		return false
	}
	// These need another address or certificate rather than another attempt.
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
