// Package bank does the parts of the tutorial other than loading. It sets up a database and
// its user, moves money between the accounts of a table, each transfer exactly once, and
// checks that no money was made or lost. It loads no rows.
package bank

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/failure"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// Errors for errors.Is.
var (
	// ErrFew: the table has fewer than two accounts, so no transfer is possible.
	ErrFew = failure.New(failure.Data, "a transfer needs two accounts")
	// ErrFunds: none of the drawn accounts holds enough to give half of it.
	ErrFunds = failure.New(failure.Data, "insufficient funds")
	// ErrMoney: money was made or lost, or balances do not follow from the history.
	ErrMoney = failure.New(failure.Unconfirmed, "the accounts do not add up")
)

// DefaultRetryFor is the default of Options.RetryFor.
const DefaultRetryFor = 5 * time.Minute

// DefaultAttemptTimeout is the default of Options.AttemptTimeout.
const DefaultAttemptTimeout = 30 * time.Second

// Options configure a bank.
type Options struct {
	// Table is the table of accounts. It needs columns id, the whole primary key, and balance,
	// both whole numbers. Empty means accounts.
	Table string
	// Workers is the number of concurrent transfers; zero means DefaultWorkers.
	Workers int
	// Seed chooses the accounts: the same seed with the same accounts gives the same pairs.
	Seed uint64
	// RetryFor bounds all attempts at one transfer; zero means DefaultRetryFor.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt at a transfer, on the client and the server: after a
	// lost connection, the locks of two accounts are held no longer than that. Zero means
	// DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// Stop, when closed, ends the run after the transfers in flight. Nil never stops.
	Stop <-chan struct{}
	// Observe, when not nil, is called with each confirmed transfer, by one goroutine at a
	// time.
	Observe func(Transfer)
	// Note, when not nil, receives messages for the user while transfers are retried. It may
	// be called by several goroutines at once.
	Note func(string)
	// SkipVerification disables the history and its look-ups: a transfer whose reply was lost
	// is repeated. Tests use it as a control, and benchmarks to measure the cost of
	// verification.
	SkipVerification bool
}

// DefaultWorkers is the default of Options.Workers.
const DefaultWorkers = 4

// A Bank moves money between the accounts of a table. Close it after use. Its methods are not
// safe for concurrent use.
type Bank struct {
	Options
	// ID identifies the run in the history.
	ID string
	// Accounts describes the table.
	Accounts *server.Table
	// Sampled is the number of accounts from which the pairs are drawn. All means that these
	// are all accounts of the table. Run sets both.
	Sampled int
	All     bool

	srv      *server.Server
	pool     *pgxpool.Pool
	sessions *server.Watch // watches pool
	sql      statements
	ids      []int64
}

// Open connects to the server and describes the table of accounts. It writes nothing. The
// error is a *server.TargetError if the table is unsuitable.
func Open(ctx context.Context, srv *server.Server, o Options) (*Bank, error) {
	if o.Table == "" {
		o.Table = "accounts"
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.RetryFor <= 0 {
		o.RetryFor = DefaultRetryFor
	}
	if o.AttemptTimeout <= 0 {
		o.AttemptTimeout = DefaultAttemptTimeout
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	name, err := server.ParseTable(o.Table)
	if err != nil {
		return nil, &server.TargetError{Name: o.Table, Reason: "is not a table name: " + err.Error()}
	}
	b := &Bank{Options: o, ID: registry.NewID(), srv: srv, sessions: &server.Watch{Note: o.Note}}
	b.pool, err = srv.Pool(ctx, server.Sessions{
		// A connection that has gone silent occupies the pool for a while.
		Name: "loader transfer " + b.ID, Max: 2 * o.Workers, Ready: o.Workers, AttemptTimeout: o.AttemptTimeout, Watch: b.sessions, Prepared: true,
	})
	if err != nil {
		return nil, err
	}
	if b.Accounts, err = server.Describe(ctx, b.pool, srv.Info, name); err == nil {
		err = checkAccounts(b.Accounts)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	b.sql = compose(b.Accounts.Name)
	return b, nil
}

// Close closes the bank's connections.
func (b *Bank) Close() { server.ClosePool(b.pool) }

// wholeNumbers lists the types allowed for id and balance.
var wholeNumbers = []string{"smallint", "integer", "bigint", "numeric"}

// checkAccounts returns an error that lists every unsuitable column, or nil.
func checkAccounts(t *server.Table) error {
	var faults []string
	for _, name := range []string{"id", "balance"} {
		c := t.Column(name)
		if c == nil {
			faults = append(faults, fmt.Sprintf("column %s is missing", name))
			continue
		}
		kind, _, _ := strings.Cut(c.Type, "(")
		if !slices.Contains(wholeNumbers, kind) {
			faults = append(faults, fmt.Sprintf("column %s is %s, not a whole number", name, c.Type))
		}
	}
	if !slices.Equal(t.Primary, []string{"id"}) {
		faults = append(faults, fmt.Sprintf("the primary key is (%s), not (id)", strings.Join(t.Primary, ", ")))
	}
	if len(faults) > 0 {
		return &server.TargetError{Name: t.Display(), Reason: "is not a table of accounts: " + strings.Join(faults, "; ")}
	}
	return nil
}

// statements holds the SQL for one table of accounts. Casts of ids and balances support
// narrower types than the tutorial's.
type statements struct {
	lock, move, note, look string
	first, probe, bounds   string
	total                  string
}

func compose(name pgx.Identifier) statements {
	t := name.Sanitize()
	return statements{
		// Both rows are locked in the order of their ids. Two transfers between the same
		// accounts then wait for each other instead of deadlocking, and the balances are
		// current even at READ COMMITTED.
		lock: "SELECT id::INT8, balance::INT8 FROM " + t + " WHERE id IN ($1, $2) ORDER BY id FOR UPDATE",
		move: "UPDATE " + t + " SET balance = balance + CASE id WHEN $1 THEN -$3::INT8 ELSE $3::INT8 END WHERE id IN ($1, $2)",
		note: "INSERT INTO loader.transfers (run, n, source, sink, amount, source_had, sink_had) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		look: "SELECT source, sink, amount FROM loader.transfers WHERE run = $1 AND n = $2",

		first:  "SELECT id::INT8 FROM " + t + " ORDER BY id LIMIT $1",
		probe:  "SELECT id::INT8 FROM " + t + " WHERE id >= $1 ORDER BY id LIMIT 1",
		bounds: "SELECT min(id)::INT8, max(id)::INT8 FROM " + t,

		total: "SELECT count(*), COALESCE(sum(balance), 0)::TEXT FROM " + t,
	}
}
