// Package bank does what the tutorial does beside loading: it sets a database and its
// user up, moves money between the accounts of a table, each transfer exactly once,
// and checks that none was made or lost. It loads no rows.
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
	// ErrFew: the table has fewer than two accounts, so that nothing can be moved.
	ErrFew = failure.New(failure.Data, "a transfer needs two accounts")
	// ErrFunds: the accounts that were drawn hold too little to give half of it.
	ErrFunds = failure.New(failure.Data, "insufficient funds")
	// ErrMoney: money was made or lost, or balances do not follow from the history.
	ErrMoney = failure.New(failure.Unconfirmed, "the accounts do not add up")
)

// DefaultRetryFor is how long one transfer is tried where Options do not say.
const DefaultRetryFor = 5 * time.Minute

// DefaultAttemptTimeout is the most time for one attempt where Options do not say.
const DefaultAttemptTimeout = 30 * time.Second

// Options say what a bank moves and how.
type Options struct {
	// Table holds the accounts: columns id, the whole primary key, and balance,
	// both whole numbers. Empty is accounts.
	Table string
	// Workers is the number of transfers at once; zero is DefaultWorkers.
	Workers int
	// Seed chooses the accounts: the same seed on the same accounts gives the
	// same pairs.
	Seed uint64
	// RetryFor bounds all attempts at one transfer; zero is DefaultRetryFor.
	RetryFor time.Duration
	// AttemptTimeout bounds one attempt at a transfer, here and on the server: what a
	// lost connection left behind holds the locks of two accounts no longer than
	// that. Zero is DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// Stop, when closed, ends the run after the transfers in flight.
	Stop <-chan struct{}
	// Observe, when not nil, is told of each confirmed transfer. It is called by
	// one goroutine at a time.
	Observe func(Transfer)
	// Note, when not nil, is told what a user should know while transfers are
	// retried. It may be called by several goroutines at once.
	Note func(string)
	// SkipVerification writes no history and looks nothing up: a transfer whose reply was
	// lost is made again. It is for the controls of tests, and for measuring what
	// the proof costs.
	SkipVerification bool
}

// DefaultWorkers is the number of transfers at once where nobody says.
const DefaultWorkers = 4

// A Bank is a table of accounts that money can be moved between. Close it after use.
// Its methods may be called by one goroutine at a time.
type Bank struct {
	Options
	// ID names the run in the history.
	ID string
	// Accounts is the table.
	Accounts *server.Table
	// Sampled is how many accounts the pairs are drawn from, and All whether these
	// are all that there are. Both are set by Run.
	Sampled int
	All     bool

	srv      *server.Server
	pool     *pgxpool.Pool
	sessions *server.Watch // of pool
	sql      statements
	ids      []int64
}

// Open connects to the accounts and describes them. It writes nothing. The error is a
// *server.TargetError where the table does not fit.
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
		return nil, &server.TargetError{Name: o.Table, Reason: "is no table's name: " + err.Error()}
	}
	b := &Bank{Options: o, ID: registry.NewID(), srv: srv, sessions: &server.Watch{Note: o.Note}}
	b.pool, err = srv.Pool(ctx, server.Sessions{
		// A connection that has gone silent keeps its place in the pool for a while.
		Name: "loader transfer " + b.ID, Max: 2 * o.Workers, Ready: o.Workers, AttemptTimeout: o.AttemptTimeout, Watch: b.sessions,
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

// Close ends the bank's connections.
func (b *Bank) Close() { server.ClosePool(b.pool) }

// wholeNumbers are the types that an id or a balance may have.
var wholeNumbers = []string{"smallint", "integer", "bigint", "numeric"}

// checkAccounts returns an error that names every column that does not fit.
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
		return &server.TargetError{Name: t.Display(), Reason: "is no table of accounts: " + strings.Join(faults, "; ")}
	}
	return nil
}

// statements are the SQL of one table of accounts. Ids and balances are cast, so that
// tables of narrower types than the tutorial's are served too.
type statements struct {
	lock, move, note, look string
	first, probe, bounds   string
	total                  string
}

func compose(name pgx.Identifier) statements {
	t := name.Sanitize()
	return statements{
		// Both rows are locked in the order of their ids: two transfers between
		// the same accounts wait for each other instead of ending in a deadlock,
		// and the balances are the last ones also at READ COMMITTED.
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
