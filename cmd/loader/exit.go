package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// The exit codes.
const (
	exitOK          = 0
	exitFault       = 1
	exitUsage       = 2
	exitData        = 3
	exitTarget      = 4
	exitStopped     = 5
	exitUnconfirmed = 6
	exitRefused     = 7
	exitRejected    = 8
)

// exitCodes are the exit codes of the kinds of errors.
var exitCodes = map[failure.Kind]int{
	failure.Usage:       exitUsage,
	failure.Interrupted: exitStopped,
	failure.Refused:     exitRefused,
	failure.Data:        exitData,
	failure.Unconfirmed: exitUnconfirmed,
	failure.GaveUp:      exitStopped,
	failure.Target:      exitTarget,
	failure.Fault:       exitFault,
}

// code returns the exit code of an error.
func (p *program) code(err error) int {
	var write *writeError
	kind := kindOf(err)
	switch code := p.signalCode(); {
	case err == nil:
		return exitOK
	case code != 0 && (kind == failure.Interrupted || kind != failure.Usage && errors.Is(err, context.Canceled)):
		return code
	case kind == failure.Usage, kind == failure.Interrupted:
	case errors.As(err, &write):
		return exitStopped
	case errors.Is(err, errRejected):
		return exitRejected
	}
	return exitCodes[kind]
}

// kindOf returns the kind of an error. The SQLSTATE decides for a database error without a
// kind; any other error is a fault of the loader.
func kindOf(err error) failure.Kind {
	if kind := server.ErrorKind(err); kind != failure.None {
		return kind
	}
	return failure.Fault
}

// exit prints the result, reports err, if any, and returns the exit code. ctx is the command's
// context. A second call reports nothing.
func (p *program) exit(ctx context.Context, err error) int {
	p.exited.Do(func() { p.exitCode = p.reportEnd(ctx, err) })
	return p.exitCode
}

// reportEnd implements exit, for its first call.
func (p *program) reportEnd(ctx context.Context, err error) int {
	err = oneReason(cause(ctx, err))
	if err == nil || p.json {
		p.printDocument(p.asJSON(err))
	}
	switch failed := p.stdout.failed("result"); {
	case failed == nil:
	case err == nil, errors.Is(err, errors.Unwrap(errors.Unwrap(failed))): // err came from a failed writer
		err = failed
	case errors.Is(err, errRejected):
		err = errors.Join(err, failed)
	}
	if err == nil {
		err = p.stderr.failed("messages")
	}
	code := p.code(err)
	if code == exitOK {
		return code
	}
	fmt.Fprintln(p.stderr, "loader:", printable(p.describe(err)))
	for _, hint := range p.hints(err, code) {
		fmt.Fprintln(p.stderr, hint)
	}
	return code
}

// asJSON returns the error of a command for its JSON document, or nil.
func (p *program) asJSON(err error) *errorJSON {
	if err == nil {
		return nil
	}
	code := p.code(err)
	return &errorJSON{printable(p.describe(err)), code, p.resume(err, code)}
}

// oneReason returns, of several errors of a stopped command, only the one of the stop: the
// others are its consequences.
func oneReason(err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok || failure.Of(err) != failure.Interrupted {
		return err
	}
	var texts []string
	for _, part := range many.Unwrap() {
		texts = append(texts, part.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return err // a single error
	}
	for _, part := range many.Unwrap() {
		if failure.Of(part) == failure.Interrupted {
			return oneReason(part)
		}
	}
	return err
}

// describe returns the error in one line. The server's detail, which may quote a row, appears
// only with --verbose.
func (p *program) describe(err error) string {
	var pg *pgconn.PgError
	text := strings.Join(strings.Fields(err.Error()), " ")
	if errors.As(err, &pg) {
		if raw := strings.Join(strings.Fields(pg.Error()), " "); strings.Contains(text, raw) {
			text = strings.ReplaceAll(text, raw, server.Reason(pg))
		}
		if p.verbose {
			for _, more := range []string{pg.Detail, pg.Hint} {
				if more != "" {
					text += "; " + strings.Join(strings.Fields(more), " ")
				}
			}
		}
	}
	return text
}
