package bank

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader"
	"bulkload/loader/server"
)

// A Transfer is one movement of money, confirmed by the server.
type Transfer struct {
	N            int64 // number in the run, from 0
	Source, Sink int64 // account ids
	Amount       int64 // half of the source's balance, rounded down
	Retries      int   // failed attempts before it
	LookUps      int   // uncertain outcomes decided by the history
	Skipped      int   // unusable pairs drawn before this one: no funds, or account deleted
	Took         time.Duration
}

// maxSkipped is the number of unusable pairs for one transfer after which the run fails with
// ErrFunds.
const maxSkipped = 100

// errSkip means that a pair is unusable: the source has less than 2, or one of the accounts
// was deleted.
var errSkip = errors.New("the pair cannot be used")

// insideWaits are the waits before cockroach-go repeats a transaction. They start longer than
// those between attempts, since the shortest do not reduce contention, and stay shorter, since
// the connection may hold locks.
var insideWaits = server.RetryPolicy{First: 20 * time.Millisecond, Last: 320 * time.Millisecond}

// retriesInside is the number of times cockroach-go repeats a transaction on its connection
// before the connection is released and the whole attempt starts anew.
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
	return t, fmt.Errorf("%w: none of %d accounts drawn in a row had a balance of 2 or more", ErrFunds, t.Skipped)
}

// persist makes attempts at a transfer between t's accounts until one is confirmed, the pair
// turns out unusable, or one fails permanently.
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
			// The history has the transfer: an attempt whose reply was lost was committed
			// after the look-up. The next look-up finds it.
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

// attempt makes one attempt in a transaction of its own. With look, it first looks up in the
// history whether an earlier attempt was committed. After a definite error that is not needed,
// but it costs only one read on a rare path, and no error is definite beyond doubt.
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
	tries := 0
	return server.Transact(ctx, b.srv.Product, conn.Conn(), retriesInside, func(tx pgx.Tx) error {
		if tries++; tries > 1 {
			// cockroach-go repeats at once, which under contention floods the server.
			t.Retries++
			if err := waits.Wait(ctx, nil); err != nil {
				return err
			}
		}
		return b.move(ctx, tx, t)
	})
}

// lookUp reports whether the history has the transfer, and copies its accounts and amount.
func (b *Bank) lookUp(ctx context.Context, conn *pgx.Conn, t *Transfer) (bool, error) {
	err := conn.QueryRow(ctx, b.sql.look, b.ID, t.N).Scan(&t.Source, &t.Sink, &t.Amount)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// move is the body of the transaction. It reads and locks both balances, moves half of the
// source's balance to the sink, and records that in the history. It may be repeated.
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
	// An account with balance NULL can neither give nor receive.
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
