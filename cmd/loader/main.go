// Command loader loads rows into CockroachDB and PostgreSQL in chunks, each row
// exactly once.
//
// Output: stdout carries only the result; the target, progress, notes and errors go to stderr.
// Each hint has its own line. Bars appear only on a terminal. No output ever holds a password.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its environment as arguments; it returns the exit code.
func run(args []string, stdin *os.File, stdout, stderr *os.File) int {
	p := &program{stdin: stdin, stdout: &streamWriter{File: stdout}, stderr: &streamWriter{File: stderr, raw: true}, stop: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // not under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	// A write to a closed pipe must fail instead of ending the program.
	//
	// Note: signal.Ignore would also affect the programs that this one starts.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ended := make(chan struct{})
	defer close(ended)
	go p.listen(signals, cancel, ended)

	app := p.app()
	if last := len(args) - 1; last > 1 && args[last] == completeFlag {
		p.complete(app, args[1:last])
		return p.exit(ctx, nil)
	}
	args, err := reorder(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	return p.exit(ctx, err)
}
