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

// The steps of a stop. The first signal lets what is under way end, for stopGrace; then, or at
// a second signal, all waiting is cancelled. What does not end within exitGrace of that, or
// before a third signal, is left behind: a read of a disk that hangs cannot be broken off.
const (
	stopGrace = 5 * time.Second
	exitGrace = 3 * time.Second
)

var (
	// errAtOnce: the user did not wait for what was under way.
	errAtOnce = failure.New(failure.Interrupted, "stopped at once")
	// errHung: what was under way did not end by itself.
	errHung = failure.New(failure.Interrupted, fmt.Sprintf("stopped: what was under way did not end within %v", stopGrace))
)

// listen turns the signals into the steps of a stop, until ended is closed.
func (p *program) listen(signals <-chan os.Signal, cancel context.CancelCauseFunc, ended <-chan struct{}) {
	var s os.Signal
	select {
	case s = <-signals:
	case <-ended:
		return
	}
	p.signal.Store(s)
	close(p.stop)
	p.note("stopping after the running chunks; once more stops at once")
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
	p.cleanUp()
	select {
	case <-ended:
	default:
		os.Exit(p.exit(context.Background(), why))
	}
}

// hung returns a channel that is closed when what is under way has had its time. An IMPORT job
// that is being cancelled has as long as the server answers; its runner sees to that.
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

// cause returns the reason why ctx has ended in place of an error that says that alone.
func cause(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, context.Canceled) {
		return err
	}
	if why := context.Cause(ctx); errors.Is(why, errAtOnce) || errors.Is(why, errHung) {
		return why
	}
	return err
}

// atEnd has f called once: by the function that it returns, or when the program ends without
// waiting for what is under way.
func (p *program) atEnd(f func()) (now func()) {
	once := sync.OnceFunc(f)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, once)
	return once
}

// cleanUp calls what atEnd was given.
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
