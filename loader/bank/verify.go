package bank

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A Verification is the result of Verify.
type Verification struct {
	Total
	Transfers int64 // in the history of this table
	Runs      int64 // runs that made them
	Touched   int64 // accounts in those transfers
	// Compared is the number of runs that recorded a sum and began with as many accounts as
	// there are now. Their sum must equal the current one.
	Compared int64
	// Made describes the sum of the first such run with a different sum; empty if there is
	// none.
	Made string
	// Broken is the number of touched accounts whose balance does not follow from the history,
	// and First the lowest of their ids.
	Broken, First int64
}

// OK reports whether no money was made or lost.
func (v Verification) OK() bool { return v.Made == "" && v.Broken == 0 }

// Err returns nil, or an error that wraps ErrMoney and says what does not add up.
func (v Verification) Err() error {
	switch {
	case v.OK():
		return nil
	case v.Broken > 0:
		return fmt.Errorf("%w: the balances of %d accounts (the first is %d) do not follow from their transfers: something else changed them, or a transfer was made twice or in part", ErrMoney, v.Broken, v.First)
	}
	return fmt.Errorf("%w: they hold %s and held %s: something other than transfers changed them", ErrMoney, v.Balance, v.Made)
}

// chain is the query for accounts whose balances do not follow from the history.
//
// Each transfer is, for either account, a step from the balance it found to the balance it
// left. If all steps happened exactly once and nothing else changed the account, they form a
// chain from its first balance to its current one. Then each balance is left as often as it is
// reached, if the current balance counts as left once more; only the first balance is left
// once more than it is reached. The order of the steps need not be known. A transfer applied
// twice or in part, or from a balance that something else had changed, breaks the count for
// some balance.
const chain = `WITH mine AS (
	SELECT t.* FROM loader.transfers t JOIN loader.transfer_runs r ON r.id = t.run WHERE r.target = $1 AND r.table_id = $2
), steps AS (
	SELECT source AS id, source_had AS balance, 1 AS d FROM mine
	UNION ALL SELECT source, source_had - amount, -1 FROM mine
	UNION ALL SELECT sink, sink_had, 1 FROM mine
	UNION ALL SELECT sink, sink_had + amount, -1 FROM mine
), touched AS (
	SELECT DISTINCT id FROM steps
), ends AS (
	SELECT id, balance, d FROM steps
	UNION ALL SELECT touched.id, now.balance::INT8, 1 FROM touched LEFT JOIN %s AS now ON now.id = touched.id
), over AS (
	SELECT id, sum(d) AS d FROM ends GROUP BY id, balance HAVING sum(d) <> 0
), broken AS (
	SELECT id FROM over GROUP BY id HAVING count(*) <> 1 OR max(d) <> 1
)
SELECT (SELECT count(*) FROM mine), (SELECT count(DISTINCT run) FROM mine), (SELECT count(*) FROM touched),
	(SELECT count(*) FROM broken), (SELECT COALESCE(min(id), 0) FROM broken)`

// Verify sums the balances, compares the sum with the one before each run, and each balance
// with the transfers that touched the account. It may run during transfers: each of its reads
// uses one snapshot. It writes nothing and reads the whole table. Faults do not make it fail;
// see Verification.Err.
func (b *Bank) Verify(ctx context.Context) (Verification, error) {
	var v Verification
	t, err := b.total(ctx)
	if err != nil {
		return v, err
	}
	v.Total = *t
	if there, err := b.hasHistory(ctx); err != nil || !there {
		return v, err
	}
	target, id := b.Accounts.Display(), int64(b.Accounts.OID)
	err = b.withoutTimeout(ctx, "compare balances with the history", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, fmt.Sprintf(chain, b.Accounts.Name.Sanitize()), target, id).Scan(&v.Transfers, &v.Runs, &v.Touched, &v.Broken, &v.First)
	})
	if err != nil {
		return v, err
	}
	err = b.retry(ctx, "compare sums with the history", func(ctx context.Context) error {
		return b.pool.QueryRow(ctx, `SELECT count(*), COALESCE((SELECT total || ' before run ' || id FROM loader.transfer_runs
			WHERE target = $1 AND table_id = $2 AND accounts = $3 AND total <> $4 ORDER BY created_at, id LIMIT 1), '')
			FROM loader.transfer_runs WHERE target = $1 AND table_id = $2 AND accounts = $3`, target, id, v.Accounts, v.Balance).Scan(&v.Compared, &v.Made)
	})
	return v, err
}
