package bank

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	crdbpgx "github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader"
	"bulkload/loader/server"
)

// A Transfer is one movement of money, confirmed by the server.
type Transfer struct {
	N            int64 // its number in the run, from 0
	Source, Sink int64 // ids of accounts
	Amount       int64 // half of what the source had, rounded down
	Retries      int   // attempts that failed before it
	LookUps      int   // uncertain outcomes that the history decided
	Skipped      int   // pairs drawn before this one that could not serve: no funds, or gone
	Took         time.Duration
}

// maxSkipped is how many pairs are drawn for one transfer before the run says that
// there are no funds.
const maxSkipped = 100

// errSkip says that a pair cannot serve: the source has less than 2, or one of the
// accounts is gone.
var errSkip = errors.New("the pair cannot serve")

// insideWaits are the waits before cockroach-go repeats a transaction. They begin longer
// than those between attempts, since contention does not calm down from the shortest, and
// end sooner, since the connection may hold locks.
var insideWaits = server.RetryPolicy{First: 20 * time.Millisecond, Last: 320 * time.Millisecond}

// retriesInside is how often cockroach-go repeats a transaction on its connection
// before it is given back and the whole attempt is made anew.
const retriesInside = 5

// transfer makes transfer n of the run, once.
func (b *Bank) transfer(ctx context.Context, n int64) (Transfer, error) {
	t := Transfer{N: n}
	start := time.Now()
	pairs := b.pairs(n)
	for t.Skipped <= maxSkipped {
		t.Source, t.Sink = pairs.next()
		err := b.persist(ctx, &t)
		if !errors.Is(err, errSkip) {
			t.Took = time.Since(start)
			return t, err
		}
		t.Skipped++
	}
	return t, fmt.Errorf("%w: %d sources were drawn one after the other, and none had 2 or more to give half of", ErrFunds, t.Skipped)
}

// persist makes attempts at a transfer between t's accounts until one is confirmed,
// cannot serve, or fails for good.
func (b *Bank) persist(ctx context.Context, t *Transfer) error {
	waits, inside := server.RetryPolicy{For: b.RetryFor, Since: time.Now()}.Waits(), insideWaits.Waits()
	uncertain, duplicates := false, 0
	for attempt := 0; ; attempt++ {
		err := b.attempt(ctx, t, attempt > 0 && !b.SkipVerification, inside)
		if err == nil || errors.Is(err, errSkip) {
			if uncertain && !b.SkipVerification {
				t.LookUps++
			}
			return err
		}
		if server.Stopped(ctx, err) {
			return ctx.Err()
		}
		if errors.Is(err, loader.ErrUnconfirmed) {
			return err
		}
		switch class := server.Classify(err); {
		case class == server.Retry:
		case class == server.Uncertain:
			uncertain = true
		case class == server.Duplicate && duplicates < 3:
			// The history has the transfer: an attempt whose reply was lost has
			// come in behind the look-up. The next look-up finds it.
			duplicates++
			uncertain = true
		default:
			return server.Failed(fmt.Sprintf("move money from account %d to %d", t.Source, t.Sink), err)
		}
		t.Retries++
		if t.Retries == 10 {
			b.Note("retrying: " + server.Reason(err))
		}
		if err := waits.Wait(ctx, server.Reasoned(err)); err != nil {
			return err
		}
	}
}

// attempt makes one attempt in a transaction of its own. With look it first asks the
// history whether an earlier one came in: a definite error needs no answer, but it
// costs one read on a way that is seldom gone, and no error is definite beyond doubt.
func (b *Bank) attempt(ctx context.Context, t *Transfer, look bool, waits *server.Waits) error {
	ctx, cancel := context.WithTimeout(ctx, b.AttemptTimeout)
	defer cancel()
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if look {
		if in, err := b.lookUp(ctx, conn.Conn(), t); in || err != nil {
			return err
		}
	}
	if b.srv.Product == server.CockroachDB {
		// cockroach-go takes the release of the savepoint for the commit. That is
		// right on CockroachDB only.
		tries := 0
		return crdbpgx.ExecuteTx(crdb.WithMaxRetries(ctx, retriesInside), conn.Conn(), pgx.TxOptions{}, func(tx pgx.Tx) error {
			if tries++; tries > 1 {
				// cockroach-go repeats at once; under contention that is a storm.
				t.Retries++
				if err := waits.Wait(ctx, nil); err != nil {
					return err
				}
			}
			return b.move(ctx, tx, t)
		})
	}
	// BeginTxFunc checks COMMIT, at which serialization may fail.
	return pgx.BeginTxFunc(ctx, conn.Conn(), pgx.TxOptions{}, func(tx pgx.Tx) error { return b.move(ctx, tx, t) })
}

// lookUp reports whether the history has the transfer, and takes over what it says.
func (b *Bank) lookUp(ctx context.Context, conn *pgx.Conn, t *Transfer) (bool, error) {
	err := conn.QueryRow(ctx, b.sql.look, b.ID, t.N).Scan(&t.Source, &t.Sink, &t.Amount)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// move is the body of the transaction: it reads and locks both balances, moves half of
// the one to the other, and notes it in the history. It may be called again.
func (b *Bank) move(ctx context.Context, tx pgx.Tx, t *Transfer) error {
	found, err := tx.Query(ctx, b.sql.lock, t.Source, t.Sink)
	if err != nil {
		return err
	}
	had := map[int64]*int64{}
	var id int64
	var balance *int64
	_, err = pgx.ForEachRow(found, []any{&id, &balance}, func() error { had[id] = balance; return nil })
	if err != nil {
		return err
	}
	// A balance of NULL holds nothing, and takes nothing.
	source, sink := had[t.Source], had[t.Sink]
	if source == nil || sink == nil || *source < 2 {
		return errSkip
	}
	t.Amount = *source / 2
	var batch pgx.Batch
	batch.Queue(b.sql.move, t.Source, t.Sink, t.Amount).Exec(func(tag pgconn.CommandTag) error {
		if n := tag.RowsAffected(); n != 2 {
			return fmt.Errorf("%w: the server changed %d of 2 accounts, and the transfer was rolled back; a trigger or rule may stand in the way", loader.ErrUnconfirmed, n)
		}
		return nil
	})
	if !b.SkipVerification {
		batch.Queue(b.sql.note, b.ID, t.N, t.Source, t.Sink, t.Amount, *source, *sink)
	}
	return tx.SendBatch(ctx, &batch).Close()
}
