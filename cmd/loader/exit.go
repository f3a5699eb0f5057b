package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/registry"
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

// resume returns the command that resumes the load, without its URL; empty if there is none.
func (p *program) resume(err error, code int) string {
	if p.resumeID == "" || errors.Is(err, load.ErrTable) || errors.Is(err, load.ErrDropped) || errors.Is(err, importer.ErrDiffers) || code == exitData && p.inStatements {
		return ""
	}
	switch code {
	case exitStopped, exitData, exitTarget, exitUnconfirmed, 129, 130, 143:
	default:
		return ""
	}
	resume := "loader loads resume " + p.resumeID
	var unread *importer.UnreadableError
	if errors.As(err, &unread) || p.keyed {
		resume += " --handoff URL"
	}
	if code == exitData && isRecord(err) {
		resume += p.tolerate
	}
	return resume
}

// isRecord reports whether a record caused err, so that the load can reject it and go on.
func isRecord(err error) bool {
	var file *files.FileError
	return !errors.As(err, &file)
}

// hints returns the hint lines for an error.
func (p *program) hints(err error, code int) []string {
	var list []string
	var create *server.CreateError
	if errors.As(err, &create) && !server.IsReadOnly(err) && (create.Kind == "schema" || create.Kind == "table") && strings.HasPrefix(create.Name, registry.Schema) {
		list = append(list, "to load without a record (the load cannot be resumed): --no-registry")
	}
	switch text := fmt.Sprint(err); {
	case create == nil && server.Code(err) == "42501" && (strings.Contains(text, "schema "+registry.Schema) || strings.Contains(text, registry.Schema+".")):
		list = append(list, fmt.Sprintf("the schema's owner gives access with: GRANT USAGE ON SCHEMA %s TO …; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO …; to load without a record (the load cannot be resumed): --no-registry", registry.Schema, registry.Schema))
	case server.Code(err) == "54011", strings.Contains(text, "row is too big"): // more columns, or wider ones, than a row may have
		list = append(list, "--map FIELD= drops a field")
	case server.Code(err) == "22021" && strings.Contains(text, "0x00"):
		list = append(list, "PostgreSQL cannot store the byte 0 in text; remove it: tr -d '\\000' < FILE | loader csv - …")
	case server.Code(err) == "0A000" && strings.Contains(text, "COPY FROM"):
		list = append(list, "--via insert loads without COPY")
	}
	if server.IsReadOnly(err) && p.server != nil {
		list = append(list, "the session is read-only: "+server.WhyReadOnly(context.Background(), p.server))
	}
	if code == exitData && p.inStatements && p.resumeID != "" {
		list = append(list, fmt.Sprintf("remove the load with its rows: loader loads cancel %s --remove-rows%s; then load again with --commit transaction --max-errors N, which sets bad records aside", p.resumeID, p.sameURL()))
	}
	resume := p.resume(err, code)
	if resume == "" && p.further != "" && (code == exitStopped || code >= 128) {
		resume = p.further
	}
	if resume == "" {
		return list
	}
	list = append(list, fmt.Sprintf("resume with: %s%s", resume, p.sameURL()))
	if code == exitData && p.tolerate != "" && isRecord(err) {
		list = append(list, fmt.Sprintf("or correct the file, then: loader loads resume %s%s", p.resumeID, p.sameURL()))
	}
	var unread *importer.UnreadableError
	if code == exitData && p.handed && !errors.As(err, &unread) {
		list = append(list, "a load by IMPORT INTO is resumed with unchanged files only; load a corrected file as a new load")
	}
	return list
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

// sameURL returns the connection flags of a command that continues this one, without their values.
func (p *program) sameURL() string {
	same := ""
	if p.byFlag {
		same += " --url …"
	}
	if p.byCommand {
		same += " --password-command …"
	}
	if same == "" {
		return ""
	}
	return same + " (the same as before)"
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
