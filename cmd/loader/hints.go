package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

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
