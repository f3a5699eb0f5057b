// Command loader loads rows into CockroachDB and PostgreSQL in chunks, each row
// exactly once.
//
// Output: stdout carries the result alone; the target, progress, notes and errors go
// to stderr. Hints stand on their own line. A bar is drawn only on a terminal. No
// output ever holds a password.
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

// run is main with its surroundings as arguments; it returns the exit code.
func run(args []string, stdin *os.File, stdout, stderr *os.File) int {
	p := &program{stdin: stdin, stdout: &stdoutWriter{File: stdout}, stderr: stderr, stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go p.listen(signals, cancel)

	app := p.app()
	args, err := reorder(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil {
		err = p.stdout.failed()
	}
	return p.exit(err)
}
