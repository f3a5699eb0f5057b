package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/failure"
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

// kindOf returns the kind of an error. One of the database that nobody has judged is what its
// SQLSTATE says, and anything else is a fault of the loader.
func kindOf(err error) failure.Kind {
	var pg *pgconn.PgError
	switch kind := failure.Of(err); {
	case kind != failure.None:
		return kind
	case errors.As(err, &pg):
		return server.KindOf(err)
	}
	return failure.Fault
}

// exit reports err, if any, and returns the exit code.
func (p *program) exit(err error) int {
	code := p.code(err)
	if code == exitOK {
		return code
	}
	resume := ""
	if p.resumeID != "" && !errors.Is(err, load.ErrTable) && (code == exitStopped || code >= 128 || code == exitData || code == exitTarget || code == exitUnconfirmed) {
		resume = "loader loads resume " + p.resumeID
	}
	text := printable(p.describe(err))
	fmt.Fprintln(p.stderr, "loader:", text)
	var create *server.CreateError
	if errors.As(err, &create) && (create.Kind == "schema" || create.Kind == "table") && strings.HasPrefix(create.Name, registry.Schema) {
		fmt.Fprintln(p.stderr, "without a record of the load, which cannot then be resumed: --no-registry")
	}
	var unread *importer.UnreadableError
	if resume != "" && (errors.As(err, &unread) || p.keyed) {
		resume += " --handoff URL"
	}
	if resume != "" {
		fmt.Fprintf(p.stderr, "go on with: %s%s\n", resume, p.sameURL())
	}
	if resume != "" && code == exitData && p.handed && unread == nil {
		fmt.Fprintln(p.stderr, "a file that was mended is a new load")
	}
	if p.json {
		b, _ := json.Marshal(struct {
			Error  string `json:"error"`
			Code   int    `json:"exit_code"`
			Resume string `json:"resume,omitempty"`
		}{text, code, resume})
		fmt.Fprintln(p.stdout, string(b))
	}
	return code
}

func (p *program) sameURL() string {
	if p.byFlag {
		return " --url … (the same as before)"
	}
	return ""
}

// describe returns the error in one line. The server's detail, which may quote a row,
// is added with --verbose only.
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
