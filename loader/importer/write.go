package importer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/importer/virtual"
)

// A WriteRequest asks for files of generated rows, for an IMPORT INTO that the user runs.
type WriteRequest struct {
	Dataset dataset.Dataset
	Table   pgx.Identifier // of the statement
	Pattern string         // of the files' names; see Name
	Files   int            // zero is one
	Workers int            // files that are written at a time; zero is automatic
	// Observe, when not nil, is called now and then with the number of rows so far.
	Observe func(rows int64)
}

// An Output describes the written files.
type Output struct {
	Names []string
	// Statement reads the files. The caller sets its URLs.
	Statement Statement
	Keys      chunker.Range // of the rows; empty if they have no range of their own
}

// Write writes the rows of a dataset to files, without a server. The same seed and the same
// numbers of rows and files give the same bytes. The keys depend on the seed alone. The errors
// are those of Out.
func Write(ctx context.Context, req WriteRequest) (Output, error) {
	var out Output
	if err := req.Dataset.Offline(); err != nil {
		return out, err
	}
	out.Keys = req.Dataset.Keys()
	src := req.Dataset.Source()
	texts, err := virtual.Parts(src, virtual.CSV, chunker.Range{End: req.Dataset.Size().Positions}, max(req.Files, 1), nil)
	if err != nil {
		return out, err
	}
	for i := range texts {
		out.Names = append(out.Names, Name(req.Pattern, i, len(texts)))
	}
	workers := req.Workers
	if workers == 0 {
		workers = minUploads
	}
	out.Statement = Statement{Table: req.Table, Format: virtual.CSV}
	for _, c := range src.Columns() {
		out.Statement.Columns = append(out.Statement.Columns, c.Name)
	}
	done := make(chan struct{})
	defer close(done)
	if req.Observe != nil {
		go Watch(texts, done, req.Observe)
	}
	if err := Out(ctx, out.Names, texts, workers); err != nil {
		return out, fmt.Errorf("nothing was written: %w", err)
	}
	return out, nil
}
