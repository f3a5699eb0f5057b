package load

import (
	"context"
	"fmt"

	"bulkload/loader/importer"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/server"
)

// previewImport says whether a load would go by IMPORT, as decide does, but opens nothing.
// The rest of the plan is then what chunks would be.
func (l *Load) previewImport(ctx context.Context, req *Request) (bool, error) {
	wanted := req.Method == Import
	if wanted {
		defer func() { req.Method = "" }()
	}
	switch {
	case l.srv.Product == server.PostgreSQL && wanted:
		l.Notes = append(l.Notes, "PostgreSQL has no IMPORT: rows go by COPY")
		return false, nil
	case l.srv.Product == server.PostgreSQL, !wanted && (req.Method != "" || l.rows() < l.minRows()):
		return false, nil
	case !wanted && req.ImportOptions.Addr == "" && !l.srv.Config.Local():
		l.Notes = append(l.Notes, "in chunks, not by IMPORT: the server is on another machine and cannot read from here (--serve-addr HOST:PORT lets it, --via import uploads)")
		return false, nil
	}
	why, err := l.refuseImport(ctx, req)
	switch {
	case err != nil:
		return false, err
	case why != "" && wanted:
		return false, &TableError{Reason: "--via import: " + why}
	case why != "":
		l.Notes = append(l.Notes, "in chunks, not by IMPORT: "+why)
		return false, nil
	}
	return true, nil
}

// asImport makes a plan of chunks one of IMPORT.
func (p *Preview) asImport(l *Load, s Settings) {
	st := importer.Statement{Table: l.Table.Name, Format: virtual.CSV, Files: s.ImportOptions.Files}
	if len(st.Files) == 0 {
		st.Format = l.Dataset.Import().Format
	}
	for _, c := range l.Dataset.Source().Columns() {
		st.Columns = append(st.Columns, c.Name)
	}
	if len(st.Files) == 0 {
		st.Files = []string{"http://HOST:PORT/1.csv"}
	}
	p.Notes = append([]string{fmt.Sprintf("handed off to IMPORT INTO: the table is offline meanwhile; in chunks it would be %d of %d rows, by %s, committed by %s", p.Chunks, p.RowsPerChunk, p.Method, p.CommitMode)}, p.Notes...)
	p.Method, p.CommitMode, p.Statement = Import, "", st.String()
	p.Chunks, p.RowsPerChunk, p.Workers = 1, p.Rows, 0
	p.LimitedBy = "none: IMPORT INTO writes no intents; indexes and limits below are those of chunks"
}
