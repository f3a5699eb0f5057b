package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"bulkload/loader/server"
)

// withPassword returns cfg with the command of --password-command. Without it, it asks the user
// for a password and returns cfg with that, if the server wants one, none is known, and stdin is
// a terminal.
func (p *program) withPassword(ctx context.Context, c *cli.Context, cfg *server.Config) (*server.Config, error) {
	if c.IsSet("password-command") {
		switch command := c.String("password-command"); {
		case strings.TrimSpace(command) == "":
			return nil, &usageError{"--password-command is empty"}
		case cfg.PasswordInString():
			return nil, &usageError{"--password-command cannot be used with a password in the URL; leave one of them out"}
		default:
			p.byCommand = true
			return cfg.WithPasswordCommand(command), nil
		}
	}
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

// readPassword reads a line without echo. A signal ends the wait.
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
	go func() { // runs until the process ends: a read of a terminal cannot be cancelled
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
