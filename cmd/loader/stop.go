package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"bulkload/loader/failure"
)

// The steps of a stop. The first signal lets running work end, for stopGrace; then, or at a
// second signal, all waiting is cancelled. Work that does not end within exitGrace after that,
// or before a third signal, is abandoned: a read of a hanging disk cannot be cancelled.
// noteGrace bounds the message about it.
const (
	noteGrace = time.Second
	stopGrace = 5 * time.Second
	exitGrace = 3 * time.Second
)

var (
	// errAtOnce: the user did not wait for the running work.
	errAtOnce = failure.New(failure.Interrupted, "stopped at once")
	// errHung: the running work did not end by itself.
	errHung = failure.New(failure.Interrupted, fmt.Sprintf("stopped: running work did not end within %v", stopGrace))
)

// listen translates signals into the steps of a stop, until ended is closed.
func (p *program) listen(signals <-chan os.Signal, cancel context.CancelCauseFunc, ended <-chan struct{}) {
	var s os.Signal
	select {
	case s = <-signals:
	case <-ended:
		return
	}
	p.signal.Store(s)
	close(p.stop)
	// A pager that is not read blocks every write.
	within(noteGrace, func() {
		p.note("stopping after the running chunks; a second signal stops at once")
	})
	why := errAtOnce
	select {
	case <-signals:
	case <-p.hung(ended):
		why = errHung
	case <-ended:
		return
	}
	cancel(why)
	select {
	case <-signals:
	case <-time.After(exitGrace):
	case <-ended:
		return
	}
	within(exitGrace, p.cleanUp) // stops a private server, which may hang
	select {
	case <-ended:
	default:
		within(exitGrace, func() { p.exit(context.Background(), why) })
		os.Exit(p.code(why))
	}
}

// within calls f and returns when f has returned, or after d.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// hung returns a channel that is closed when the running work's time is up. Cancelling an
// IMPORT job may last as long as the server responds; the job's runner watches that.
func (p *program) hung(ended <-chan struct{}) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-time.After(stopGrace):
			case <-ended:
				return
			}
			if !p.importing.Load() {
				return
			}
		}
	}()
	return over
}

// cause replaces an error that only says that ctx was cancelled with the reason of the stop.
func cause(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	if why := context.Cause(ctx); errors.Is(why, errAtOnce) || errors.Is(why, errHung) {
		return why
	}
	return err
}

// atEnd registers f for one call: by the returned function, or at an end of the program that
// abandons running work.
func (p *program) atEnd(f func()) (now func()) {
	once := sync.OnceFunc(f)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, once)
	return once
}

// cleanUp calls the functions registered with atEnd.
func (p *program) cleanUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.cleanups {
		f()
	}
}

// signalCode returns the exit code for the signal that stopped the program, or 0.
func (p *program) signalCode() int {
	switch p.signal.Load() {
	case os.Interrupt:
		return 130
	case syscall.SIGTERM:
		return 143
	case syscall.SIGHUP:
		return 129
	}
	return 0
}
