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
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/server"
)

// A Dataset is what one load loads. While a load is opened its methods are called by one
// goroutine, in the order of the interface; those below Source may then be called at any time,
// and the source, Observe and Interrupt by many goroutines at once.
type Dataset interface {
	// Facts returns what never changes.
	Facts() Facts
	// Fresh returns the same dataset as it was before it was opened: each load has its own.
	Fresh() Dataset

	// Inspect looks at what a new load reads, before there is a table.
	Inspect(ctx context.Context, o *Opening) error
	// Reopen finds out whether what a recorded load reads is still the same. Its error is
	// one of package files, or nil.
	Reopen(ctx context.Context, o *Opening) error
	// Create returns the statement that makes a missing table, and that table as far as it
	// can be described before it is there. The error, a *TableError, says what is missing
	// for that, as the end of a sentence.
	Create(p server.Product, name pgx.Identifier) (string, *server.Table, error)
	// Fit decides which value goes to which column of o.Table. A *TableError names all
	// that does not fit.
	Fit(ctx context.Context, o *Opening) error
	// Reserve makes sure that the keys of a new load are nobody's.
	Reserve(ctx context.Context, o *Opening) error
	// Choose completes how chunks are committed and travel where the user left it open. A
	// *TableError says why a choice of the user's is refused.
	Choose(ctx context.Context, o *Opening, asked Choice) (Choice, error)
	// Planned is told the plan, and the rows to which chunks may grow.
	Planned(p chunker.Plan, maxRows int64)

	// Size returns how much there is. Title names it for people: "10000 points, seed 7".
	Size() Size
	Title() string
	// Record returns what the record of the load keeps, a JSON object. Its names share one
	// object with those of package load.
	Record() (json.RawMessage, error)
	// RowInfo is what is known of the rows' keys, and Cost completes the cost of a row's
	// keys with that of its message.
	RowInfo() keysize.RowInfo
	Cost(keys chunker.Cost) chunker.Cost
	// RecordBytes is the typical length of a record, zero of computed rows; ChunkRows the
	// rows of a chunk where no limit is near.
	RecordBytes() int64
	ChunkRows() int64
	// Advice says what another choice would gain; empty where nothing is known.
	Advice() string
	// Reading says how files are read, and what the first records become; nil where nothing
	// is read.
	Reading() *Reading
	// Ordered says why chunks must be committed one after the other, in the order of the
	// rows and by one run at a time; empty: in any order.
	Ordered() string
	// Options returns how chunks are committed: the fields of commit.Options that depend
	// on the rows.
	Options() commit.Options
	// Import returns how IMPORT reads the rows.
	Import() Import
	// Verification returns how rows of the table are compared with the dataset's.
	Verification() Verification
	// Keys returns the range of keys that only this load uses; empty: there is none.
	Keys() chunker.Range
	// Leases says how a run leases positions.
	Leases() Leases

	// Offline gives the rows the keys that they have in files which are written without a
	// server. The error says that such files are not written.
	Offline() error

	// Source returns the rows.
	Source() loader.Source
	// Raw says whether chunks go to the server as their text is.
	Raw(bool)
	// Reread says whether rows are read again, to be compared with the table: as values
	// whatever Raw says, and without the records that cannot be parsed.
	Reread(bool)
	// Begin is called before the first chunk. counted returns how many records earlier runs
	// have rejected, and read; nil: there is no record of them.
	Begin(ctx context.Context, counted func(context.Context) (rejected, read int64, err error)) error
	// Observe is told each event of a run.
	Observe(loader.Event)
	// Rejects returns what files of rejected records are named after, and the line in
	// front of their records; empty: none.
	Rejects() (name, header string)
	// Interrupt ends all reading with cause, also where it waits.
	Interrupt(cause error)
	// Outcome describes a finished load.
	Outcome(t *server.Table, r loader.Result, rejected int64) Outcome
	// Close ends all reading and releases memory.
	Close()
}

// Facts are what never changes of a dataset.
type Facts struct {
	Kind     string // as records and JSON name it: points, accounts, csv
	Database string // where the rows go when the URL names no database
	Table    string // where they go when no table is named; empty: one must be
	Unit     string // of positions, in words: rows, bytes
	Noun     string // of what a progress bar counts: points, bytes
	// Texts says that values travel as texts, so that settings of the session decide what
	// they mean.
	Texts bool
	// BoundedMemory says that memory is bounded whatever the rows hold, so that garbage is
	// collected in time for that.
	BoundedMemory bool
}

// Size is how much a dataset holds.
type Size struct {
	Positions int64 // rows, or bytes of files
	Rows      int64 // of files about how many; zero is unknown
	// Endless says that nobody knows the end before it is there: a stream.
	Endless bool
	// Once says that no other process can read the rows again: the load cannot be resumed.
	Once bool
}

// An Opening is what a dataset may use while a load of it is opened.
type Opening struct {
	DB    *pgxpool.Pool
	Info  server.Info
	Table *server.Table   // nil before the table is known
	Stop  <-chan struct{} // closed when the user wants no more
	Note  func(string)    // tells the user something before the first row
	// Input opens files, and AnyTime takes a file whose time alone is another for the
	// same. They are the run's.
	Input   any
	AnyTime bool
	// Fixed says that the rows are in files that were written without a server, so that
	// no key can be chosen any more.
	Fixed bool
	// Imported says that IMPORT reads the rows.
	Imported bool
	// Resumed is the id of the load that is opened again; empty of a new one.
	Resumed string
	// RecalledMode says that the way asked for is what loader bench found, not the user's.
	RecalledMode bool
	// Workers is the number of workers that the user asked for; zero is automatic.
	Workers int
}

// Leases says how a run leases positions; zero values are those of package registry.
type Leases struct {
	// Min is the size below which a lease is not made for the sake of sharing, Max the
	// most positions of one.
	Min, Max int64
	// Block, when not zero, keeps claims from crossing its multiples: positions whose keys
	// lie together.
	Block int64
	// Fit moves the end of a claim to where the rows can be cut; nil: anywhere.
	Fit func(chunker.Range) (chunker.Range, error)
}

// A Choice is how chunks are committed and how they travel; empty fields are open.
type Choice struct {
	Mode   commit.Mode
	Method commit.Method
}

// Import is how IMPORT reads a dataset.
type Import struct {
	Format virtual.Format
	// Refused says why IMPORT cannot read the rows; empty: it can.
	Refused string
	// MinRows is the number of rows from which on IMPORT is taken by itself, into a table
	// without secondary indexes. Zero is the number where chunks are slow.
	MinRows int64
	// OwnKeys says that the rows bring keys of their own, so that they may go into a table
	// that has rows, and by several jobs. Refused then says why they may not, IntoRows of
	// a table that has rows.
	OwnKeys  bool
	IntoRows string
	// Exact says that each position is a row, of about RowBytes bytes as text. Elsewhere
	// positions are bytes, and RowBytes is 1.
	Exact    bool
	RowBytes int64
	// Fit moves the end of a range of positions to where the rows can be cut; nil: anywhere.
	Fit func(chunker.Range) (chunker.Range, error)
	// Count counts the rows of a range; nil where Exact.
	Count func(chunker.Range) (int64, error)
	// KeysOf returns the keys of a range of positions, which are no other's; nil: they are
	// not known.
	KeysOf func(chunker.Range) chunker.Range
	// Repeats says why it cannot be told whether two rows have the same key; empty: it
	// can, or the server makes the keys. Nil: no two have.
	Repeats func() string
	// MaxRecordBytes is the longest record, zero of computed rows.
	MaxRecordBytes int
	// AsIs looks whether the server can read files as they are. It returns how many records
	// it is to pass over, or why it cannot. Nil: the rows are in no files.
	AsIs func(ctx context.Context, o *Opening) (skip int, why string, err error)
	// Options are those of files that the server reads as they are.
	Options func(skip int) []virtual.Option
}

// A Verification is how rows of the table are compared with those of a dataset. The zero value
// is for computed rows: each has a key of its own, and all of its columns are in the table as
// they were computed.
type Verification struct {
	// Records says that the rows are records that were read: two may have one key, and some
	// may have been rejected.
	Records bool
	// Keyless says that records do not have the whole primary key: rows can only be counted.
	Keyless bool
	// Computed are the columns that SQL computed from the records, and that cannot be
	// compared.
	Computed []string
}

// ReadUntil ends all reading of a dataset with ctx or stop, also where it waits for a pipe or a
// network, until done is called.
func ReadUntil(ctx context.Context, d Dataset, stop <-chan struct{}) (done func()) {
	ctx, cancel := loader.WithStop(ctx, stop)
	still := context.AfterFunc(ctx, func() { d.Interrupt(context.Cause(ctx)) })
	return func() { still(); cancel() }
}

// An Outcome describes a finished load: what JSON shows beside the run's own figures, the
// line that says what was loaded, lines for people, and a query that shows rows.
type Outcome struct {
	JSON   any
	Origin string // what it was made from: "seed 7"; empty of files
	Title  string // "10000 points"
	Lines  []string
	Query  string
}

// A TableError says that the target does not fit the load. Nothing was written.
type TableError struct {
	Reason string
	// Flags says that what the user asked for contradicts itself, whatever the table is.
	Flags bool
}

// ErrorKind implements failure.Kinded.
func (e *TableError) ErrorKind() failure.Kind {
	if e.Flags {
		return failure.Usage
	}
	return failure.Target
}

func (e *TableError) Error() string { return e.Reason }

// Contradict returns a *TableError of flags that do not go together, or with the input.
func Contradict(format string, args ...any) error {
	return &TableError{Reason: fmt.Sprintf(format, args...), Flags: true}
}

// Refuse returns a *TableError.
func Refuse(format string, args ...any) error {
	return &TableError{Reason: fmt.Sprintf(format, args...)}
}

// A ResumeError says why a load that was begun cannot go on, and what can be done.
type ResumeError struct{ Reason string }

// ErrorKind implements failure.Kinded.
func (e *ResumeError) ErrorKind() failure.Kind { return failure.Refused }

func (e *ResumeError) Error() string { return e.Reason }

// Errors of Dataset.Reopen, and of the source of rows, for errors.Is.
var (
	// ErrChanged: a file is not the one that the load was begun with.
	ErrChanged = failure.New(failure.Refused, "the file has changed since the load began")
	// ErrOnce: only the process that began with an input can read it.
	ErrOnce = failure.New(failure.Refused, "cannot be read a second time, so that the load cannot be resumed")
)

// A Reading says how files are read, and what the first records become.
type Reading struct {
	Names     []string    `json:"names"`
	Bytes     int64       `json:"bytes"` // -1 is unknown
	Delimiter string      `json:"delimiter"`
	Quote     string      `json:"quote"` // empty is none
	Escape    string      `json:"escape"`
	Null      string      `json:"null"`
	Header    bool        `json:"header"`
	RowBytes  int64       `json:"mean_record_bytes"`
	Fields    []ReadField `json:"fields"`
	// Sample are the first records, field by field; nil is NULL.
	Sample [][]*string `json:"sample"`
}

// A ReadField says where a field or an expression goes.
type ReadField struct {
	Field  string `json:"field,omitempty"`  // its name; empty for an expression
	Column string `json:"column,omitempty"` // empty: to no column
	Type   string `json:"type,omitempty"`
	Expr   string `json:"expression,omitempty"`
}
