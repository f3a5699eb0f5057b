// Package commit writes each row of a chunk durably, exactly once. After an uncertain outcome,
// mode Statement looks the rows up, and mode Transaction reads a ledger row. It is the only
// package that writes loaded rows. It does not choose the chunks, nor who may write them.
//
// Begin with Options and Committer.Commit, then read statement.go and transaction.go.
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

	"bulkload/loader"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// Bounds of the wait between two attempts at a chunk. An overloaded server gets longer pauses than
// the policy's default.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = 5 * time.Second
)

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
	// holdsLease: a session that has prepared a statement keeps a DROP of the table waiting until
	// its next statement. Measured: 21.1 does, 22.1 and 26.1 do not.
	holdsLease bool
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
	if err := o.check(info); err != nil {
		return nil, err
	}
	c := &Committer{Options: o, pool: pool, product: info.Product, sql: compose(o, info.Product)}
	c.repeated = server.RepeatedMode(pool.Config().ConnConfig)
	c.holdsLease = info.Product == server.CockroachDB && !info.AtLeast(22, 1, 0)
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

	begin time.Time // of the attempt
	waits *server.Waits
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
	p.waits = retries.Waits()
	for {
		if !c.TakesRaw() || p.parsed || p.verify {
			if err := chunk.Parse(); err != nil {
				return p.out, err
			}
		}
		if n := c.messageBytes(chunk); c.MaxMessageBytes > 0 && n > c.MaxMessageBytes {
			return p.out, fmt.Errorf("%w: a message of %d bytes, but the server accepts %d", loader.ErrTooLarge, n, c.MaxMessageBytes)
		}
		p.sent, p.begin = false, time.Now()
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
		if chunk.Raw() != nil && disputed(err) {
			p.parsed = true
			continue
		}
		if isFinal(err) || errors.Is(err, loader.ErrSlow) {
			return p.out, err
		}
		switch class := server.Classify(err); class {
		case server.Retry, server.Uncertain:
			err = c.retry(ctx, chunk, &p, class, err)
		case server.Data, server.Permanent, server.Duplicate:
			err = c.refused(ctx, chunk, &p, class, err)
		case server.TooLarge:
			err = fmt.Errorf("%w: %s", loader.ErrTooLarge, server.Reason(err))
		default:
			err = &RefusedError{err}
		}
		if err != nil {
			return p.out, err
		}
	}
}

// retry waits before the next attempt, after a failure that may pass. It returns an error if the
// chunk took too long, so that its halves follow, or if the time for retries is over.
func (c *Committer) retry(ctx context.Context, chunk *rows.Chunk, p *progress, class server.Class, err error) error {
	p.out.Retries++
	p.verify = p.verify || class == server.Uncertain
	if server.Throttled(err) && !p.out.Throttled {
		p.out.Throttled = true
		if c.throttled.CompareAndSwap(false, true) {
			c.Note(fmt.Sprintf("the server's licence limits open transactions; continuing with fewer workers: %s", server.Reason(err)))
		}
	}
	if took := time.Since(p.begin); p.sent && chunk.Len() > splitAbove && !c.SkipVerification && took >= c.ChunkTimeout/10*lateTenths {
		c.stuck.CompareAndSwap(0, p.begin.UnixNano())
		p.late = true
		if class == server.Retry {
			return slow(chunk.Len(), took)
		}
	}
	if p.out.Retries == 3 {
		c.Note(fmt.Sprintf("retrying: %s", server.Reason(err)))
	}
	return p.waits.Wait(ctx, &RefusedError{err})
}

// refused judges an error about the rows of a chunk. It returns nil if the next attempt, which is
// made in another way, may succeed.
func (c *Committer) refused(ctx context.Context, chunk *rows.Chunk, p *progress, class server.Class, err error) error {
	switch {
	case class == server.Duplicate && (c.byStatement(chunk, p) || c.Redraw != nil):
		return c.duplicate(p, err)
	case chunk.Origin == nil:
		return asFinal(class, err)
	case c.Tolerate != nil && !p.isolate && ofRow(class, err):
		p.isolate = true
		return nil
	}
	return c.locate(ctx, chunk, p, class, err)
}

// FixedMessageBytes bounds the part of a message without rows, in bytes: the statement and the
// array headers.
const FixedMessageBytes = 1024

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

// Tolerates reports whether refused rows become rejects.
func (c *Committer) Tolerates() bool { return c.Tolerate != nil }

// TakesRaw reports whether the text of raw chunks is sent unchanged.
func (c *Committer) TakesRaw() bool { return c.sql.raw != "" }

// disputed reports whether the server refused a raw chunk. The chunk is then parsed here, which
// finds the fault and its place. There may be no fault: COPY ends at a line of \. (until
// PostgreSQL 17), and refuses mixed line ends within a chunk. In both cases the server reports
// an error or another number of rows.
func disputed(err error) bool {
	if errors.Is(err, loader.ErrUnconfirmed) {
		return true // another number of rows
	}
	class := server.Classify(err)
	return class == server.Data || class == server.Permanent || class == server.Duplicate
}

// duplicate judges SQLSTATE 23505 in mode Statement or with Redraw. The rows may be committed
// already by an earlier attempt. It returns nil if the next attempt may succeed.
func (c *Committer) duplicate(p *progress, err error) error {
	if c.Mode == Transaction {
		if p.returning {
			return &DuplicateError{Err: err}
		}
		p.returning = true
		c.conflicting.Store(true)
		return nil
	}
	// Also on a first send: the rows may be in from an earlier run.
	p.verify, p.lastDup = true, err
	p.noProgress++
	if c.SkipVerification {
		return &DuplicateError{Err: err}
	}
	return nil
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
