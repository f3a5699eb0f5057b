package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/failure"
)

// Bounds of a password command. An attempt to connect bounds it too (connect_timeout).
const (
	passwordTimeout = 30 * time.Second
	maxPassword     = 1 << 16 // bytes; tokens have some thousands
)

// A PasswordError reports that the password command gave no password. Its text has nothing of
// what the command wrote.
type PasswordError struct{ Reason string }

// ErrorKind implements failure.Kinded.
func (e *PasswordError) ErrorKind() failure.Kind { return failure.Target }

func (e *PasswordError) Error() string { return "the password command " + e.Reason }

// WithPasswordCommand returns a copy that runs a shell command for each new connection, and logs
// in with the first line that it writes. Tokens may thus be valid for minutes only: a load that
// connects again after hours asks again, and if the server refuses the password, asks once more.
// Nothing of what the command writes is ever printed.
func (c *Config) WithPasswordCommand(command string) *Config {
	copied := c.pgx.Copy()
	copied.Password = ""
	copied.AfterNetConnect = func(ctx context.Context, cfg *pgconn.Config, conn net.Conn) (net.Conn, error) {
		var err error
		cfg.Password, err = runPassword(ctx, command)
		return conn, err
	}
	return c.with(copied)
}

// commandRefused reports whether the server refused the password of a command, which may give
// another one now.
func commandRefused(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && connect.Config.AfterNetConnect != nil
}

// runPassword returns the first line of a command's output.
func runPassword(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, passwordTimeout)
	defer cancel()
	cmd := shell(ctx, command)
	out := boundedBuffer{max: maxPassword}
	cmd.Stdout = &out           // stderr goes nowhere: it may quote a secret
	cmd.WaitDelay = time.Second // for what holds its output open
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", &PasswordError{"did not end in time"}
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return "", &PasswordError{fmt.Sprintf("ended with exit code %d", exit.ExitCode())}
	case errors.As(err, &exit):
		return "", &PasswordError{"was ended by a signal"}
	case errors.Is(err, exec.ErrWaitDelay):
		return "", &PasswordError{"left something running that holds its output"}
	case err != nil:
		return "", &PasswordError{"cannot be started"}
	case out.over:
		return "", &PasswordError{fmt.Sprintf("wrote more than %d bytes", maxPassword)}
	}
	line, _, _ := bytes.Cut(out.b.Bytes(), []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", &PasswordError{"wrote no password"}
	}
	return string(line), nil
}

// A boundedBuffer keeps the first bytes that are written to it.
type boundedBuffer struct {
	b    bytes.Buffer
	max  int
	over bool
}

func (w *boundedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), w.max-w.b.Len())
	w.b.Write(p[:n])
	w.over = w.over || n < len(p)
	return len(p), nil
}
