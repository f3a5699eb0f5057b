// Package dataset says what a load loads. A Dataset knows its rows, the table that they fit,
// what a row costs, which ways to commit suit it, how IMPORT reads it, and what the record of
// a load keeps of it. It is the only thing that differs between kinds of rows: packages load
// and importer work with any Dataset and ask none for its kind. The package has the datasets
// whose rows are computed from a seed; package files has those that are read. It writes no row.
package dataset

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/server"
)

// A Dataset is what one load loads. Its methods are called by one goroutine, in the order of
// the interface's sections; the Source is used by many.
type Dataset interface {
	// Facts returns what never changes.
	Facts() Facts
	// Size returns how much there is. It is known after Inspect or Reopen.
	Size() Size
	// Title names the dataset for people: "10000 points, seed 7".
	Title() string

	// Inspect looks at what a new load reads, before there is a table.
	Inspect(ctx context.Context, o *Opening) error
	// Reopen finds out whether what a recorded load reads is still the same.
	Reopen(ctx context.Context, o *Opening) error
	// Create returns the statement that makes a missing table, and that table as far as it
	// can be described before it is there. A *TableError says why none is made.
	Create(p server.Product, name pgx.Identifier) (string, *server.Table, error)
	// Fit decides which value goes to which column of o.Table. A *TableError names all
	// that does not fit.
	Fit(ctx context.Context, o *Opening) error
	// Reserve makes sure that the keys of a new load are nobody's.
	Reserve(ctx context.Context, o *Opening) error
	// Record returns what the record of the load keeps, a JSON object. Its names share
	// one object with those of package load.
	Record() (json.RawMessage, error)

	// Source returns the rows. It may be asked after Fit and Reserve.
	Source() loader.Source
	// Choose completes a choice of the user's. A *TableError says why it is refused.
	Choose(ctx context.Context, o *Opening, asked Choice) (Choice, error)
	// Options returns how chunks are committed: the fields of commit.Options that depend
	// on the rows.
	Options(o *Opening, c Choice) commit.Options
	// RowInfo is what is known of the rows' keys.
	RowInfo(info server.Info, t *server.Table) keysize.RowInfo
	// Cost completes the cost of a row's keys with that of its message.
	Cost(keys chunker.Cost, m commit.Via) chunker.Cost
	// RecordBytes is the typical length of a record, zero of generated rows.
	RecordBytes() int64
	// ChunkRows returns the rows of a chunk where no limit is near.
	ChunkRows(info server.Info, c Choice) int64
	// Planned is told the plan, and the rows to which chunks may grow.
	Planned(p chunker.Plan, maxRows int64, info server.Info, c Choice)

	// Close ends all reading.
	Close()
}

// Facts are what never changes of a dataset.
type Facts struct {
	Kind     string // as records and JSON name it: points, accounts, csv
	Database string // where the rows go when the URL names no database
	Table    string // where they go when no table is named; empty: one must be
	Unit     string // of positions, in words: rows, bytes
	Noun     string // of what a progress bar counts: points, bytes
}

// Size is how much a dataset holds.
type Size struct {
	Positions int64 // rows, or bytes of files
	Rows      int64 // of files about how many; zero is unknown
}

// An Opening is what a dataset may use while a load of it is opened.
type Opening struct {
	DB    server.Querier
	Info  server.Info
	Table *server.Table   // nil before the table is known
	Stop  <-chan struct{} // closed when the user wants no more
	Note  func(string)    // tells the user something before the first row
	// Fixed says that the rows are in files that were written without a server, so that
	// no key can be chosen any more.
	Fixed bool
	// Imported says that IMPORT reads the rows.
	Imported bool
}

// A Choice is how chunks are committed and how they travel; empty fields are open.
type Choice struct {
	Way commit.Way
	Via commit.Via
}

// A TableError says that the target does not fit the load. Nothing was written.
type TableError struct{ Reason string }

func (e *TableError) Error() string { return e.Reason }

// Refuse returns a *TableError.
func Refuse(format string, args ...any) error { return &TableError{fmt.Sprintf(format, args...)} }
