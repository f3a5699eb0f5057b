package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/bench"
	"bulkload/loader/commit"
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

// code is the one mapping of errors to exit codes.
func (p *program) code(err error) int {
	var (
		usage   *usageError
		connect *server.ConnectError
		create  *server.CreateError
		table   *load.TableError
		local   *localError
		dup     *commit.DuplicateError
		refused *commit.RefusedError
		target  *server.TargetError
		data    *files.DataError
		file    *files.FileError
		row     *commit.RowError
		many    *commit.ToleranceError
		key     *server.KeyError
		cert    *certificateError
		grid    *bench.GridError
		job     *importer.JobError
		unread  *importer.UnreadableError
		broken  *importer.ConstraintError
		written *importer.FileError
		write   *writeError
		resume  *load.ResumeError
		schema  *registry.SchemaError
		pg      *pgconn.PgError
		pooled  *server.PooledError
		setting *server.SettingsError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.As(err, &grid), errors.Is(err, bench.ErrNothing), errors.Is(err, server.ErrURL):
		return exitUsage
	case errors.Is(err, loader.ErrStopped), errors.Is(err, context.Canceled) && p.signalCode() != 0:
		if code := p.signalCode(); code != 0 {
			return code
		}
		return exitStopped
	case errors.As(err, &write):
		return exitStopped
	case errors.Is(err, errRejected):
		return exitRejected
	case errors.Is(err, load.ErrTable):
		if errors.Is(err, loader.ErrUnconfirmed) {
			return exitUnconfirmed
		}
		return exitRefused
	case errors.Is(err, files.ErrChanged), errors.Is(err, files.ErrOnce), errors.As(err, &resume), errors.As(err, &setting):
		return exitRefused
	case errors.As(err, &pooled):
		return exitTarget
	case errors.As(err, &data), errors.As(err, &row), errors.As(err, &many):
		return exitData
	case errors.As(err, &file):
		return exitData
	case errors.As(err, &written):
		return exitTarget
	case errors.Is(err, loader.ErrLost), errors.Is(err, registry.ErrNoLoad), errors.Is(err, registry.ErrNoRegistry), errors.Is(err, registry.ErrCancelled), errors.Is(err, registry.ErrDeferred):
		return exitRefused
	case errors.As(err, &job):
		switch {
		case job.Data, errors.As(err, &unread):
			return exitData
		case job.Status == importer.RevertFailed:
			return exitUnconfirmed
		}
		return exitStopped
	case errors.As(err, &broken), errors.Is(err, loader.ErrUnconfirmed), errors.Is(err, errVerify), errors.Is(err, load.ErrIncomplete), errors.Is(err, bank.ErrMoney):
		return exitUnconfirmed
	case errors.Is(err, loader.ErrGaveUp), errors.Is(err, loader.ErrStalled):
		return exitStopped
	case errors.As(err, &dup), errors.Is(err, bank.ErrFew), errors.Is(err, bank.ErrFunds):
		return exitData
	case errors.As(err, &connect), errors.As(err, &create), errors.As(err, &table), errors.As(err, &schema), errors.As(err, &local), errors.As(err, &target), errors.As(err, &key), errors.As(err, &cert):
		return exitTarget
	case errors.As(err, &refused), errors.As(err, &pg):
		switch class := server.Classify(err); {
		case class == server.Data, class == server.Duplicate:
			return exitData
		case class == server.Refused, strings.HasPrefix(server.Code(err), "42"):
			return exitTarget
		}
		return exitStopped
	case errors.Is(err, loader.ErrTooLarge):
		return exitData
	}
	return exitFault
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
	if errors.As(err, &create) && (create.What == "schema" || create.What == "table") && strings.HasPrefix(create.Name, registry.Schema) {
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
