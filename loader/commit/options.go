package commit

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A Mode is how a chunk is committed.
type Mode string

// The modes.
const (
	// Statement sends a chunk as one statement outside BEGIN … COMMIT. After an uncertain
	// outcome the chunk's keys are looked up, and all columns of the found rows are compared.
	// The source must give the whole primary key: as the Key column, or as Keys.
	Statement Mode = "statement"
	// Transaction writes a ledger row and the rows in one transaction. The ledger row decides
	// an uncertain outcome.
	Transaction Mode = "transaction"
)

// A Method is how rows travel to the server.
type Method string

// The methods.
const (
	Insert Method = "insert" // INSERT … SELECT … FROM unnest($1::INT8[], …)
	Copy   Method = "copy"   // COPY … FROM STDIN, binary on PostgreSQL, text on CockroachDB
)

// Defaults of Options.
const (
	DefaultChunkTimeout = 60 * time.Second
	DefaultRetryFor     = 5 * time.Minute
)

// An Assignment gives a table column an SQL expression over the chunk's columns, which keep
// their names and types.
type Assignment struct {
	Column string
	Expr   string
}

// A Conflict says how to treat a row whose primary key already exists.
type Conflict string

// The conflicts; an empty one is an error.
const (
	SkipRow   Conflict = "skip"
	UpdateRow Conflict = "update"
)

// Options say how chunks are committed.
type Options struct {
	Table   pgx.Identifier // schema-qualified if necessary
	Columns []rows.Column  // as the source gives them
	// Key is the primary key column, if the source gives it, it is of kind rows.Int, and it is
	// the whole key. Otherwise Key is empty; without Keys too, only Transaction works.
	Key string
	// Keys are the primary key columns, if rows of text contain all of them. Statement looks
	// them up, and Conflict refers to them. They are cast to their Column.Type.
	Keys []string
	// Store assigns the table's columns. Nil means that each column's text goes into the table
	// column of the same name.
	Store []Assignment
	// Conflict says how to treat a row whose key already exists; empty means an error. Chunks
	// must then be committed in the order of their rows, so that the first or the last row of a
	// key wins.
	Conflict Conflict
	// Overriding says that a column is GENERATED ALWAYS AS IDENTITY.
	Overriding bool
	// Tolerate, when not nil, turns a row that the server refuses into a reject of the load
	// instead of an error. It receives the chunk's number of rejects in each attempt to commit
	// the chunk. Its error ends the load. The chunk needs an Origin, and the load a record. On
	// PostgreSQL the mode must be Transaction. On CockroachDB, Statement commits a chunk with
	// rejects in a transaction with its ledger row.
	Tolerate func(span chunker.Span, rejects int) error
	Mode     Mode
	Method   Method
	// TextCopy makes COPY send text on PostgreSQL too, for tables with column types other than
	// INT8, FLOAT8 and TEXT.
	TextCopy bool
	// Dialect is the CSV dialect of raw chunks, whose text PostgreSQL's COPY takes unchanged.
	// Nil: chunks are parsed first.
	Dialect *csv.Dialect
	// Began, when not empty, is the start of the load as Stamp gives it. Rows written earlier
	// belong to others.
	Began string
	// Load and Run name the load and the run in the registry, for the ledger.
	// An empty Load means that there is no registry.
	Load, Run string
	// Redraw gives the next key for a row whose key belongs to another row; see
	// dataset.Accounts. Nil: such a row is a duplicate, and an error.
	Redraw func(row int64, attempt int) (int64, error)
	// MaxMessageBytes is the server's maximum message size in bytes; zero means no limit. A
	// larger message would get no answer: the server closes the connection while it is being
	// sent, which looks like a network fault.
	MaxMessageBytes int64
	// ChunkTimeout bounds one attempt at one chunk; zero is DefaultChunkTimeout.
	ChunkTimeout time.Duration
	// RetryFor bounds all attempts at one chunk; zero is DefaultRetryFor.
	RetryFor time.Duration
	// Note, when not nil, receives messages for the user while a chunk is retried. Several
	// goroutines may call it at once.
	Note func(string)
	// SkipVerification turns off the lookup and the ledger: an uncertain chunk is simply sent
	// again. It exists for control tests, and to measure the cost of the proof.
	SkipVerification bool

	sends []*wire // by column: how a variant of the statement sends it; nil is as text
}

// check returns an error for options that exclude each other.
func (o *Options) check(info server.Info) error {
	switch {
	case o.Mode != Statement && o.Mode != Transaction:
		return fmt.Errorf("unknown commit mode %q", o.Mode)
	case o.Method != Insert && o.Method != Copy:
		return fmt.Errorf("unknown method %q", o.Method)
	case o.Method == Copy && (o.Store != nil || o.Conflict != ""):
		return errors.New("COPY can neither compute columns nor skip rows; use --via insert")
	case o.Conflict != "" && o.Mode == Statement:
		return errors.New("--commit statement cannot tell rows that existed from its own rows after a lost reply; use --commit transaction")
	case o.Conflict != "" && len(o.Keys) == 0:
		return errors.New("only rows with the whole primary key can be skipped or updated")
	case o.Tolerate != nil && (o.Mode == Statement && info.Product != server.CockroachDB || o.Load == ""):
		return errors.New("rejecting bad rows needs an entry of the load in the registry, and on PostgreSQL --commit transaction")
	case o.Mode == Statement && o.Key == "" && len(o.Keys) == 0:
		return errors.New("--commit statement needs rows with the whole primary key")
	case o.Mode == Statement && o.Redraw != nil:
		return errors.New("--commit statement cannot give rows new keys; use --commit transaction")
	case o.Mode == Statement && o.Method == Copy && info.Product == server.CockroachDB && !info.AtLeast(22, 2, 0):
		return fmt.Errorf("%s commits a COPY outside a transaction in parts; use --commit transaction or --via insert", info)
	}
	return nil
}
