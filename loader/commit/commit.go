// Package commit writes each row of a chunk durably, exactly once. After an uncertain outcome,
// mode Statement looks the rows up, and mode Transaction reads a ledger row. It is the only
// package that writes loaded rows. It does not choose the chunks, nor who may write them.
//
// Begin with Committer.Commit, then read statement.go and transaction.go.
package commit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/failure"
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

// Bounds of the wait between two attempts at a chunk. An overloaded server gets longer pauses than
// the policy's default.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = 5 * time.Second
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

// A Committer commits chunks to one table. It implements loader.Committer and is
// safe for concurrent use; each chunk in flight takes one connection of the pool.
type Committer struct {
	Options
	pool        *pgxpool.Pool
	product     server.Product
	sql         statements
	repeated    pgx.QueryExecMode // of statements that send rows
	buffers     sync.Pool         // of *[]byte, for COPY
	wires       []*wire           // by column; nil: its texts are sent as they are
	arrays      sync.Pool         // of *[][]byte, for typed columns
	variants    sync.Map          // statements that send some columns typed, by columns and kind
	composed    atomic.Int32      // number of variants
	conflicting atomic.Bool       // a key belonged to another row: expect more of them
	// throttled: the user was told that the server's licence limits transactions.
	throttled atomic.Bool
	// buffersWrites: the server may buffer a transaction's writes until its COMMIT.
	buffersWrites bool
	// stuck is the start of the first chunk that was late since the last success, in Unix
	// nanoseconds; zero means none. RetryFor counts from it, so that the halves of a chunk have
	// together no more time than the whole.
	stuck atomic.Int64
}

// New returns a committer. The pool's connections must be prepared with Prepare. The error
// names options that exclude each other.
func New(pool *pgxpool.Pool, info server.Info, o Options) (*Committer, error) {
	if o.ChunkTimeout <= 0 {
		o.ChunkTimeout = DefaultChunkTimeout
	}
	if o.RetryFor <= 0 {
		o.RetryFor = DefaultRetryFor
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	switch {
	case o.Mode != Statement && o.Mode != Transaction:
		return nil, fmt.Errorf("unknown commit mode %q", o.Mode)
	case o.Method != Insert && o.Method != Copy:
		return nil, fmt.Errorf("unknown method %q", o.Method)
	case o.Method == Copy && (o.Store != nil || o.Conflict != ""):
		return nil, errors.New("COPY can neither compute columns nor skip rows; use --via insert")
	case o.Conflict != "" && o.Mode == Statement:
		return nil, errors.New("--commit statement cannot tell rows that existed from its own rows after a lost reply; use --commit transaction")
	case o.Conflict != "" && len(o.Keys) == 0:
		return nil, errors.New("only rows with the whole primary key can be skipped or updated")
	case o.Tolerate != nil && (o.Mode == Statement && info.Product != server.CockroachDB || o.Load == ""):
		return nil, errors.New("rejecting bad rows needs an entry of the load in the registry, and on PostgreSQL --commit transaction")
	case o.Mode == Statement && o.Key == "" && len(o.Keys) == 0:
		return nil, errors.New("--commit statement needs rows with the whole primary key")
	case o.Mode == Statement && o.Redraw != nil:
		return nil, errors.New("--commit statement cannot give rows new keys; use --commit transaction")
	case o.Mode == Statement && o.Method == Copy && info.Product == server.CockroachDB && !info.AtLeast(22, 2, 0):
		return nil, fmt.Errorf("%s commits a COPY outside a transaction in parts; use --commit transaction or --via insert", info)
	}
	c := &Committer{Options: o, pool: pool, product: info.Product, sql: compose(o, info.Product)}
	c.repeated = server.RepeatedMode(pool.Config().ConnConfig)
	c.buffersWrites = info.Product == server.CockroachDB && info.AtLeast(25, 2, 0)
	if o.fromText() && len(o.Keys) > 0 {
		c.sql.keys = o.keysText(info)
	}
	c.buffers.New = func() any { return new([]byte) }
	c.arrays.New = func() any { return new([][]byte) }
	for _, col := range o.Columns {
		c.wires = append(c.wires, wireOf(col))
	}
	return c, nil
}

// A DuplicateError says that rows of a chunk collide with each other, or with rows that the
// load did not write.
type DuplicateError struct {
	Key string // "id=17" of the first such row; empty if unknown
	Why string // the owner of the key; empty means a row that the load did not write
	Err error  // the server's error, where it gave one
}

// ErrorKind implements failure.Kinded.
func (e *DuplicateError) ErrorKind() failure.Kind { return failure.Data }

func (e *DuplicateError) Error() string {
	s := "duplicate key"
	if e.Key != "" {
		why := e.Why
		if why == "" {
			why = "a row that this load did not write has the same key"
		}
		s += " " + e.Key + ": " + why
	}
	if e.Err != nil {
		s += ": " + server.Reason(e.Err)
	}
	return s
}

func (e *DuplicateError) Unwrap() error { return e.Err }

// A RefusedError is a server error that no retry can fix.
type RefusedError struct{ Err error }

// ErrorKind implements failure.Kinded.
func (e *RefusedError) ErrorKind() failure.Kind { return server.KindOf(e.Err) }

func (e *RefusedError) Error() string { return server.Reason(e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// A RowError says that a row of a chunk is bad, and gives its place in the input.
type RowError struct {
	rows.Place
	Err error // the server's
}

// ErrorKind implements failure.Kinded.
func (e *RowError) ErrorKind() failure.Kind { return failure.Data }

func (e *RowError) Error() string {
	return e.Place.String() + ": " + columnPart(e.Err) + server.Reason(e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// progress is the state of one chunk between attempts.
type progress struct {
	out         loader.Outcome
	verify      bool   // look up before the next send
	ledgerFirst bool   // read the ledger's answer before the rows are sent; see sendAtOnce
	returning   bool   // send with ON CONFLICT … RETURNING, and draw new keys for missing rows
	isolate     bool   // some rows are bad: find and reject them
	parsed      bool   // send parsed rows even if raw text could be sent
	before      string // statements to send with the next COPY
	sent        bool   // the attempt started to send rows
	doubt       bool   // existing rows may be the chunk's own
	late        bool   // an attempt took too long; if the rows are not committed, halves follow
	noProgress  int    // attempts after which rows were missing although their keys were free
	lastDup     error
}

// splitAbove is the number of rows up to which a late chunk is sent again whole. With so few
// rows the cause is something else: a lock or the network.
const splitAbove = 50

// Commit writes the rows of chunk durably; see loader.Committer. It may wrap these errors:
// loader.ErrTooLarge, ErrSlow, ErrGaveUp, ErrUnconfirmed, ErrLost, *DuplicateError,
// *RefusedError, and the cause of a *server.ConnectError.
func (c *Committer) Commit(ctx context.Context, chunk *rows.Chunk) (loader.Outcome, error) {
	p := progress{returning: c.Redraw != nil && c.conflicting.Load(), doubt: chunk.Sent}
	retries := server.RetryPolicy{First: firstWait, Last: lastWait, For: c.RetryFor, Since: time.Now()}
	if stuck := c.stuck.Load(); stuck != 0 {
		retries.Since = time.Unix(0, stuck)
	}
	waits := retries.Waits()
	for {
		if !c.TakesRaw() || p.parsed || p.verify {
			if err := chunk.Parse(); err != nil {
				return p.out, err
			}
		}
		if n := c.messageBytes(chunk); c.MaxMessageBytes > 0 && n > c.MaxMessageBytes {
			return p.out, fmt.Errorf("%w: a message of %d bytes, but the server accepts %d", loader.ErrTooLarge, n, c.MaxMessageBytes)
		}
		p.sent = false
		begin := time.Now()
		err := c.attempt(ctx, chunk, &p)
		if err == nil {
			c.stuck.Store(0)
			if c.Mode == Statement && c.hasLedger() {
				p.out.Hash = hashOf(chunk)
			}
			return p.out, nil
		}
		if p.sent && server.Classify(err) == server.Uncertain {
			p.doubt, p.out.Uncertain = true, c.LooksUp()
		}
		if server.Stopped(ctx, err) {
			return p.out, ctx.Err()
		}
		var again errRetry
		if errors.As(err, &again) {
			continue // something was learned: look, or send otherwise, at once
		}
		if chunk.Raw() != nil && c.disputed(err) {
			p.parsed = true
			continue
		}
		if isFinal(err) || errors.Is(err, loader.ErrSlow) {
			return p.out, err
		}
		switch class := server.Classify(err); class {
		case server.Retry, server.Uncertain:
			p.out.Retries++
			p.verify = p.verify || class == server.Uncertain
			if server.Throttled(err) && !p.out.Throttled {
				p.out.Throttled = true
				if c.throttled.CompareAndSwap(false, true) {
					c.Note(fmt.Sprintf("the server's licence limits open transactions; continuing with fewer workers: %s", server.Reason(err)))
				}
			}
			if took := time.Since(begin); p.sent && chunk.Len() > splitAbove && !c.SkipVerification && took >= c.ChunkTimeout/10*lateTenths {
				c.stuck.CompareAndSwap(0, begin.UnixNano())
				p.late = true
				if class == server.Retry {
					return p.out, slow(chunk.Len(), took)
				}
			}
			if p.out.Retries == 3 {
				c.Note(fmt.Sprintf("retrying: %s", server.Reason(err)))
			}
			if err := waits.Wait(ctx, &RefusedError{err}); err != nil {
				return p.out, err
			}
		case server.Data, server.Permanent, server.Duplicate:
			if class == server.Duplicate && (c.byStatement(chunk, &p) || c.Redraw != nil) {
				if done, err := c.duplicate(&p, err); done {
					return p.out, err
				}
				continue
			}
			switch {
			case chunk.Origin == nil:
				return p.out, asFinal(class, err)
			case c.Tolerate != nil && !p.isolate && ofRow(class, err):
				p.isolate = true
			default:
				return p.out, c.locate(ctx, chunk, &p, class, err)
			}
		case server.TooLarge:
			return p.out, fmt.Errorf("%w: %s", loader.ErrTooLarge, server.Reason(err))
		default:
			return p.out, &RefusedError{err}
		}
	}
}

// messageBytes returns the size of the message that carries a chunk's rows, without its
// constant part; see FixedMessageBytes. It returns zero for COPY, which sends many small
// messages.
func (c *Committer) messageBytes(chunk *rows.Chunk) int64 {
	if c.Method == Copy {
		return 0
	}
	var n int64
	for i := range chunk.Width() {
		if v := chunk.Col(i); v.Kind == rows.Text {
			n += 4*int64(chunk.Len()) + int64(v.TextBytes())
		} else {
			n += (4 + 8) * int64(chunk.Len())
		}
	}
	return n
}

// lateTenths is the part of ChunkTimeout, in tenths, after which a failed attempt counts as
// late: the server's own statement limit is a little shorter than ChunkTimeout.
const lateTenths = 8

// slow returns the error of a late chunk that is not committed.
func slow(rows int, took time.Duration) error {
	return fmt.Errorf("%w: %d rows in %s", loader.ErrSlow, rows, took.Round(10*time.Millisecond))
}

// TakesRaw reports whether the text of raw chunks is sent unchanged.
func (c *Committer) TakesRaw() bool { return c.sql.raw != "" }

// disputed reports whether the server refused a raw chunk. The chunk is then parsed here, which
// finds the fault and its place. There may be no fault: COPY ends at a line of \. (until
// PostgreSQL 17), and refuses mixed line ends within a chunk. In both cases the server reports
// an error or another number of rows.
func (c *Committer) disputed(err error) bool {
	if errors.Is(err, loader.ErrUnconfirmed) {
		return true // another number of rows
	}
	class := server.Classify(err)
	return class == server.Data || class == server.Permanent || class == server.Duplicate
}

// duplicate judges SQLSTATE 23505 in mode Statement or with Redraw. The rows may be committed
// already by an earlier attempt. done is false if the next attempt may succeed.
func (c *Committer) duplicate(p *progress, err error) (done bool, _ error) {
	if c.Mode == Transaction {
		if p.returning {
			return true, &DuplicateError{Err: err}
		}
		p.returning = true
		c.conflicting.Store(true)
		return false, nil
	}
	// Also on a first send: the rows may be in from an earlier run.
	p.verify, p.lastDup = true, err
	p.noProgress++
	if c.SkipVerification {
		return true, &DuplicateError{Err: err}
	}
	return false, nil
}

// asFinal returns the error that ends a chunk.
func asFinal(class server.Class, err error) error {
	if class == server.Duplicate {
		return &DuplicateError{Err: err}
	}
	return &RefusedError{err}
}

// byStatement reports whether the next attempt is one statement. Mode Statement commits a chunk
// with rejects in a transaction.
func (c *Committer) byStatement(chunk *rows.Chunk, p *progress) bool {
	return c.Mode == Statement && !p.isolate && len(chunk.Rejects) == 0
}

// attempt makes one attempt, within the chunk's deadline.
func (c *Committer) attempt(ctx context.Context, chunk *rows.Chunk, p *progress) error {
	ctx, cancel := context.WithTimeout(ctx, c.ChunkTimeout)
	defer cancel()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if c.byStatement(chunk, p) {
		return c.statement(ctx, conn.Conn(), chunk, p)
	}
	if c.product == server.CockroachDB {
		return c.cockroachTransaction(ctx, conn.Conn(), chunk, p)
	}
	return c.postgresTransaction(ctx, conn.Conn(), chunk, p)
}

// errRetry asks for the next attempt at once, because this one gained information.
type errRetry struct{}

func (errRetry) Error() string { return "again" }

// isFinal reports whether err was made by this package and ends the chunk.
func isFinal(err error) bool {
	var dup *DuplicateError
	var row *RowError
	var many *ToleranceError
	return errors.As(err, &dup) || errors.As(err, &row) || errors.As(err, &many) || errors.Is(err, loader.ErrUnconfirmed) || errors.Is(err, loader.ErrLost)
}
