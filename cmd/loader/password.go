package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/term"

	"bulkload/loader/server"
)

// withPassword returns cfg with the password that the user types where the server asks
// for one, none is known, and there is a terminal to type it at.
func (p *program) withPassword(ctx context.Context, cfg *server.Config) (*server.Config, error) {
	if cfg.HasPassword() || !isTerminal(p.stdin) || !server.WantsPassword(ctx, cfg) {
		return cfg, nil
	}
	fmt.Fprintf(p.stderr, "password of %s at %s: ", cfg.User(), cfg.Host())
	password, err := p.readPassword(ctx)
	fmt.Fprintln(p.stderr)
	if err != nil {
		return nil, err
	}
	return cfg.WithPassword(password), nil
}

// readPassword reads a line without echo. A signal ends it.
func (p *program) readPassword(ctx context.Context) (string, error) {
	fd := int(p.stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	type answer struct {
		text []byte
		err  error
	}
	typed := make(chan answer, 1)
	go func() { // ends with the process: a read of a terminal cannot be broken off
		b, err := term.ReadPassword(fd)
		typed <- answer{b, err}
	}()
	select {
	case a := <-typed:
		if a.err != nil {
			return "", fmt.Errorf("read the password: %w", a.err)
		}
		return string(a.text), nil
	case <-p.stop:
	case <-ctx.Done():
	}
	return "", errors.Join(fmt.Errorf("no password was typed: %w", context.Canceled), term.Restore(fd, before))
}
