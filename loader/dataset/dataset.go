// Package dataset has the rows of a load. A Dataset knows its rows, the table that they fit, the
// cost of a row, the commit modes that suit it, how IMPORT reads it, and its part of a load's
// record. It is the only difference between kinds of rows: packages load and importer work with
// any Dataset and ask none for its kind. The package has the datasets of computed rows; package
// files has the dataset of files. It writes no row.
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

// A Dataset is the rows of one load. While a load is opened, one goroutine calls the methods, in
// the order of the interface. The methods from Source on may then be called at any time. The
// source, Observe and Interrupt are safe for concurrent use.
type Dataset interface {
	// Facts returns the facts of the kind of rows.
	Facts() Facts
	// Fresh returns the same dataset, not opened: each load has a dataset of its own.
	Fresh() Dataset

	// Inspect looks at the input of a new load, before there is a table.
	Inspect(ctx context.Context, o *Opening) error
	// Reopen makes sure that the input of a recorded load has not changed. Its error wraps
	// ErrChanged or ErrOnce, or is that of reading.
	Reopen(ctx context.Context, o *Opening) error
	// Create returns the statement that creates a missing table, and the table as far as it
	// is known before it exists. The error is the end of a sentence: why the statement
	// cannot be made.
	Create(ctx context.Context, p server.Product, name pgx.Identifier) (string, *server.Table, error)
	// Fit decides which value goes to which column of o.Table. A *TableError names all
	// columns that do not fit.
	Fit(ctx context.Context, o *Opening) error
	// Reserve makes sure that no row of others has a key of a new load.
	Reserve(ctx context.Context, o *Opening) error
	// Choose completes the choice of the user. A *TableError says why it is refused.
	Choose(ctx context.Context, o *Opening, asked Choice) (Choice, error)
	// Planned receives the plan, the maximum of rows to which chunks may grow, and how many
	// chunks are under way together at the start if the server is far; zero if it is near.
	Planned(p chunker.Plan, maxRows int64, together int)

	// Size returns how much there is. Title names it for people: "10000 points, seed 7".
	Size() Size
	Title() string
	// Record returns the dataset's part of the load's record: a JSON object, whose names are
	// joined with those of package load.
	Record() (json.RawMessage, error)
	// RowInfo returns the known facts of the rows' keys. Cost adds the cost of a row's
	// message to the cost of its keys.
	RowInfo() keysize.RowInfo
	Cost(keys chunker.Cost) chunker.Cost
	// RecordBytes is the typical length of a record, zero of computed rows; ChunkRows the
	// rows of a chunk where no limit is near.
	RecordBytes() int64
	ChunkRows() int64
	// Reading says how files are read, with the first records as an example; nil where no
	// file is read.
	Reading() *Reading
	// Ordered says why chunks must be committed one after the other, in the order of the
	// rows and by one run at a time; empty: in any order.
	Ordered() string
	// Options returns the fields of commit.Options that depend on the rows.
	Options() commit.Options
	// Import returns how IMPORT reads the rows.
	Import() Import
	// Verification returns how rows of the table are compared with the dataset's.
	Verification() Verification
	// Keys returns the range of keys that only this load uses; empty: there is none.
	Keys() chunker.Range
	// Leases says how a run leases positions.
	Leases() Leases

	// Offline gives the rows their keys without a server, for files of them. The error says
	// that such files are not written.
	Offline() error

	// Source returns the rows.
	Source() loader.Source
	// Raw turns on chunks of unparsed text.
	Raw(bool)
	// Reread turns on reading for a comparison with the table: rows are parsed, whatever Raw
	// says, and records that cannot be parsed are left out.
	Reread(bool)
	// Begin is called before the first chunk. counted returns how many records earlier runs
	// have rejected, and read; nil: there is no record of them.
	Begin(ctx context.Context, counted func(context.Context) (rejected, read int64, err error)) error
	// Observe receives each event of a run.
	Observe(loader.Event)
	// Rejects returns the beginning of the names of files of rejected records, and their
	// header line; empty: none.
	Rejects() (name, header string)
	// Interrupt ends all reading with cause, also reads that wait.
	Interrupt(cause error)
	// Outcome describes a finished load.
	Outcome(t *server.Table, r loader.Result, rejected int64) Outcome
	// Close ends all reading and releases memory.
	Close()
}

// Facts are the facts of a kind of rows.
type Facts struct {
	Kind     string // as records and JSON name it: points, accounts, csv
	Database string // where the rows go when the URL names no database
	Table    string // where they go when no table is named; empty: one must be
	Unit     string // of positions, in words: rows, bytes
	Noun     string // the unit of a progress bar: points, bytes
	// Texts says that values travel as texts. Settings of the session decide their meaning.
	Texts bool
	// BoundedMemory says that the memory of a load is bounded, whatever the rows hold: the
	// command sets a memory limit for the garbage collector.
	BoundedMemory bool
}

// Size is how much a dataset holds.
type Size struct {
	Positions int64 // rows, or bytes of files
	Rows      int64 // of files about how many; zero is unknown
	// Endless says that the size is unknown until the end is read: a stream.
	Endless bool
	// Once says that no other process can read the rows again: the load cannot be resumed.
	Once bool
}

// An Opening holds the server and the settings that a dataset may use while a load of it is opened.
type Opening struct {
	DB    *pgxpool.Pool
	Info  server.Info
	Table *server.Table   // nil before the table is known
	Stop  <-chan struct{} // closed when the user stops the load
	Note  func(string)    // tells the user something before the first row
	// Guess tells the user a guess about the input on which a value depends.
	Guess func(string)
	// Input opens files. AnyTime accepts a file that differs only in its time. Both belong to the
	// run.
	Input   any
	AnyTime bool
	// Fixed says that the rows are in files that were written without a server: their keys
	// cannot be chosen.
	Fixed bool
	// Imported says that IMPORT reads the rows.
	Imported bool
	// Resumed is the id of the load that is opened again; empty of a new one.
	Resumed string
	// RecalledMode says that the commit mode asked for was found by loader bench, and is not
	// the user's.
	RecalledMode bool
	// Workers is the number of workers that the user asked for; zero is automatic.
	Workers int
	// Pooled says that the sessions go through a pooler.
	Pooled bool
	// ToFile says that the rows go to files, and not to the server.
	ToFile bool
	// Loaded returns the records of complete loads of the dataset's kind into a table of the same
	// database, the newest first: a dataset's own part is in each. It leaves out loads into a table
	// that was truncated or made again. Nil, or no record: there is no such load, or it is unknown.
	Loaded func(ctx context.Context, table pgx.Identifier) ([]json.RawMessage, error)
}

// Leases says how a run leases positions. Zero values are the defaults of package registry.
type Leases struct {
	// Min is the minimum size of a lease that is made smaller to share the load, Max the
	// maximum size of a lease, in positions.
	Min, Max int64
	// Block, when not zero, keeps leases from crossing its multiples: the positions of a
	// block have neighbouring keys.
	Block int64
	// Fit moves the end of a lease to a place between two rows; nil: every place is one.
	Fit func(chunker.Range) (chunker.Range, error)
	// Ahead cuts off the first part of a range that is announced at once, and identifies its
	// bytes; nil: nothing is announced. See registry.Queue.
	Ahead func(chunker.Range) (part chunker.Range, hash string, err error)
}

// A Choice is how chunks are committed and how they travel; empty fields are open.
type Choice struct {
	Mode   commit.Mode
	Method commit.Method
	// Why says why an automatic choice took the mode; empty: there is nothing to choose.
	Why string
}

// Import is how IMPORT reads a dataset.
type Import struct {
	Format virtual.Format
	// Refused says why IMPORT cannot read the rows; empty: it can.
	Refused string
	// MinRows is the number of rows from which on IMPORT is the default, into a table without
	// secondary indexes. Zero is the default for slow chunks.
	MinRows int64
	// OnlyAsked says that IMPORT is never the default.
	OnlyAsked bool
	// OwnKeys says that the rows have keys: they may be loaded into a table that has rows,
	// and by several jobs. IntoRows says why a table that has rows cannot take them; empty:
	// it can.
	OwnKeys  bool
	IntoRows string
	// Exact says that each position is a row, of about RowBytes bytes as text. Elsewhere
	// positions are bytes, and RowBytes is 1.
	Exact    bool
	RowBytes int64
	// Fit moves the end of a range of positions to where the rows can be cut; nil: anywhere.
	Fit func(chunker.Range) (chunker.Range, error)
	// Count counts the rows of a range; nil where Exact.
	Count func(context.Context, chunker.Range) (int64, error)
	// KeysOf returns the keys of a range of positions. No other row has them. Nil: they are
	// not known.
	KeysOf func(chunker.Range) chunker.Range
	// Repeats says why repeated keys cannot be found; empty: they can, or the server makes
	// the keys. Nil: no two rows have the same key.
	Repeats func() string
	// MaxRecordBytes is the longest record, zero of computed rows.
	MaxRecordBytes int
	// AsIs finds out whether the server can read the files themselves. It returns the number
	// of records that the server has to skip, or why it cannot read them. Nil: the rows are
	// in no files.
	AsIs func(ctx context.Context, o *Opening) (skip int, why string, err error)
	// Options are the options of IMPORT INTO for files that the server reads themselves.
	Options func(skip int) []virtual.Option
}

// A Verification is how rows of the table are compared with those of a dataset. The zero value
// is for computed rows: each has a key of its own, and all of its columns are in the table as
// they were computed.
type Verification struct {
	// Records says that the rows are records of an input: two may have one key, and some may
	// have been rejected.
	Records bool
	// Keyless says that records do not have the whole primary key: rows can only be counted.
	Keyless bool
	// Computed are the columns that SQL computed from the records. They cannot be compared.
	Computed []string
}

// ReadUntil ends all reading of a dataset with ctx or stop, also where it waits for a pipe or a
// network, until done is called.
func ReadUntil(ctx context.Context, d Dataset, stop <-chan struct{}) (done func()) {
	ctx, cancel := loader.WithStop(ctx, stop)
	still := context.AfterFunc(ctx, func() { d.Interrupt(context.Cause(ctx)) })
	return func() { still(); cancel() }
}

// An Outcome describes a finished load: the JSON beside the run's own figures, the title and more
// lines for people, and a query that shows rows.
type Outcome struct {
	JSON   any
	Origin string // of the rows: "seed 7"; empty of files
	Title  string // "10000 points"
	Lines  []string
	Query  string
}

// A Checker is a Dataset that knows contradictions within its own request, and between it and
// the settings of its load. It looks at no input and asks no server.
type Checker interface {
	// Check returns the contradictions, one text each.
	Check(Asked) []string
}

// Asked are the settings of a load that the user asks for.
type Asked struct {
	Mode       commit.Mode   // empty is automatic
	Method     commit.Method // empty is automatic
	NoRegistry bool
	Import     bool // the server's IMPORT loads the rows
}

// NotByImport is the format of the contradiction between a flag and IMPORT.
const NotByImport = "%s cannot be used with IMPORT: one server job reads all rows"

// A TableError says that the target does not fit the load. Nothing was written.
type TableError struct {
	Reason string
	// Flags says that the request contradicts itself, whatever the table is.
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

// Contradict returns a *TableError of flags that contradict each other, or the input.
func Contradict(format string, args ...any) error {
	return &TableError{Reason: fmt.Sprintf(format, args...), Flags: true}
}

// Refuse returns a *TableError.
func Refuse(format string, args ...any) error {
	return &TableError{Reason: fmt.Sprintf(format, args...)}
}

// A ResumeError says why a load cannot be resumed, and what can be done.
type ResumeError struct{ Reason string }

// ErrorKind implements failure.Kinded.
func (e *ResumeError) ErrorKind() failure.Kind { return failure.Refused }

func (e *ResumeError) Error() string { return e.Reason }

// Errors of Dataset.Reopen, and of the source of rows, for errors.Is.
var (
	// ErrChanged: a file is not the one that the load was begun with.
	ErrChanged = failure.New(failure.Refused, "the file has changed since the load began")
	// ErrOnce: only the process that opened an input first can read it.
	ErrOnce = failure.New(failure.Refused, "cannot be read again, so the load cannot be resumed")
)

// A Reading says how files are read, with the first records as an example.
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

// A Tolerant dataset can have bad records, of which a load allows some.
type Tolerant interface {
	// MoreErrors returns a value of --max-errors that allows more bad records than the load
	// does.
	MoreErrors() string
}

// A Ruler is a Dataset that makes values by rules.
type Ruler interface {
	// Rules returns the rule of each column that is written, with the values of the first n
	// rows.
	Rules(n int64) ([]ColumnRule, error)
}

// A ColumnRule says how the values of a column are made.
type ColumnRule struct {
	Column string  `json:"column"`
	Type   string  `json:"type"`
	Rule   string  `json:"rule"`
	Nulls  float64 `json:"nulls"` // share of NULLs
	// Sample are the values of the first rows; nil is NULL.
	Sample []*string `json:"sample"`
}
