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

// Bounds of the wait between two attempts, where a RetryPolicy has none of its own.
const (
	firstWait = 10 * time.Millisecond
	lastWait  = 2 * time.Second
)

// A RetryPolicy is how the loader makes an attempt again that failed. The wait after a
// failed attempt doubles from First to Last. Each wait is a random part of that, between
// half and the whole, so that those who failed together do not come back together. The
// zero value is ready for use.
type RetryPolicy struct {
	// First and Last bound the waits; zero is 10 ms and 2 s.
	First, Last time.Duration
	// For is the time after which no attempt is made any more; zero is no bound but the
	// context. It counts from Since, or, where that is zero, from the first failure: the
	// time of the first attempt is no reason to give up.
	For   time.Duration
	Since time.Time
	// Judge reports whether another attempt may succeed; nil is MayPass.
	Judge func(error) bool
}

// MayPass reports whether another attempt may succeed: Classify says Retry or Uncertain.
func MayPass(err error) bool {
	c := Classify(err)
	return c == Retry || c == Uncertain
}

// Do calls fn, which must be safe to call again, until it succeeds or the policy ends it.
// It then returns fn's last error, which wraps failure.ErrGaveUp when the time was over, or
// that of ctx when it ended during a wait.
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

// Waits are the waits of one series of attempts. They are for one goroutine.
type Waits struct {
	policy RetryPolicy
	wait   retry.Backoff
	end    time.Time
}

// Waits returns the waits of a new series, for attempts that decide more than whether to
// go on. The policy's Judge is not asked.
func (p RetryPolicy) Waits() *Waits {
	if p.First == 0 {
		p.First = firstWait
	}
	if p.Last == 0 {
		p.Last = lastWait
	}
	// Three quarters, and a third of that more or less: from half to the whole.
	wait := retry.WithCappedDuration(p.Last*3/4, retry.NewExponential(p.First*3/4))
	w := &Waits{policy: p, wait: retry.WithJitterPercent(33, wait)}
	if p.For > 0 && !p.Since.IsZero() {
		w.end = p.Since.Add(p.For)
	}
	return w
}

// Wait waits before the next attempt. The error is that of ctx, or wraps failure.ErrGaveUp
// and err, the failure of the last attempt, when the time for attempts would be over.
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

// Bounds of RetryOpening: a fault of the network is given a few attempts, a server that
// says that it is starting or full some seconds.
const (
	openingAttempts = 4
	openingWait     = 10 * time.Second
)

// RetryOpening calls fn, which opens something and may safely be called twice, until it
// succeeds or fails for a reason that does not pass. A connection that breaks while a load
// is being opened costs an attempt, not the load. It waits no more than some seconds:
// nothing has been written yet, and the user is there.
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
