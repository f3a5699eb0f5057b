package bank

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"bulkload/loader"
	"bulkload/loader/latency"
	"bulkload/loader/server"
)

// MaxSummed is the number of accounts up to which Run sums all balances before the first
// transfer and after the last. For larger tables, reading the table twice would take longer
// than the transfers. Verify sums any number.
const MaxSummed = 10_000_000

// A Total is the sum of all balances, read in one statement.
type Total struct {
	Accounts int64
	Balance  string // a whole number, which may exceed 64 bits
}

// A Result describes a run. After an error it holds what was confirmed before.
type Result struct {
	Transfers int64
	Amount    *big.Int // sum of all transfers
	Retries   int64    // failed attempts, over all transfers
	LookUps   int64    // uncertain outcomes decided by the history
	Skipped   int64    // unusable pairs
	Elapsed   time.Duration
	P50, P99  time.Duration // latency of a transfer, first attempt to confirmation

	// Before and After are nil if they were not read: the table is larger than MaxSummed, or
	// the run ended with an error.
	Before, After *Total
}

// PerSecond returns the transfers per second; 0 if Elapsed is 0.
func (r Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Transfers) / r.Elapsed.Seconds()
}

// Run makes n transfers and checks that the sum of the balances stayed the same. The error may
// wrap ErrFew, ErrFunds, ErrMoney, loader.ErrStopped, loader.ErrGaveUp, loader.ErrUnconfirmed
// or *server.CreateError.
func (b *Bank) Run(ctx context.Context, n int64) (Result, error) {
	res := Result{Amount: new(big.Int)}
	// 1. The state before.
	if err := b.sample(ctx); err != nil {
		return res, err
	}
	small, err := b.small(ctx)
	if err != nil {
		return res, err
	}
	if small {
		if res.Before, err = b.total(ctx); err != nil {
			return res, err
		}
	}
	if !b.SkipVerification {
		if err := b.ensureHistory(ctx); err != nil {
			return res, err
		}
		if err := b.begin(ctx, n, res.Before); err != nil {
			return res, err
		}
	}
	// 2. The transfers.
	start := time.Now()
	err = b.transfers(ctx, n, &res)
	res.Elapsed = time.Since(start)
	if err != nil {
		return res, err
	}
	// 3. The state after, and the history.
	if small {
		if res.After, err = b.total(ctx); err != nil {
			return res, fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
		}
		if res.Before.Accounts == res.After.Accounts && res.Before.Balance != res.After.Balance {
			return res, fmt.Errorf("%w: %d accounts held %s before the run and hold %s now", ErrMoney, res.After.Accounts, res.Before.Balance, res.After.Balance)
		}
	}
	if b.SkipVerification {
		return res, nil
	}
	return res, b.finish(ctx, res)
}

// transfers runs the transfers on all workers.
func (b *Bank) transfers(ctx context.Context, n int64, res *Result) error {
	var (
		next    atomic.Int64
		mu      sync.Mutex
		times   latency.Histogram
		stopped bool
	)
	group, ctx := errgroup.WithContext(ctx)
	for range min(int64(b.Workers), n) {
		group.Go(func() error {
			for {
				select {
				case <-b.Stop:
					mu.Lock()
					stopped = true
					mu.Unlock()
					return nil
				case <-ctx.Done():
					return ctx.Err()
				default:
				}
				i := next.Add(1) - 1
				if i >= n {
					return nil
				}
				t, err := b.transfer(ctx, i)
				mu.Lock()
				res.Retries += int64(t.Retries)
				res.LookUps += int64(t.LookUps)
				res.Skipped += int64(t.Skipped)
				if err == nil {
					res.Transfers++
					res.Amount.Add(res.Amount, big.NewInt(t.Amount))
					times.Add(t.Took)
					if b.Observe != nil {
						b.Observe(t)
					}
				}
				mu.Unlock()
				if err != nil {
					return fmt.Errorf("transfer %d: %w", i, err)
				}
			}
		})
	}
	err := group.Wait()
	res.P50, res.P99 = times.Quantile(0.50), times.Quantile(0.99)
	if err == nil && stopped && res.Transfers < n {
		return fmt.Errorf("%w after %d of %d transfers", loader.ErrStopped, res.Transfers, n)
	}
	return err
}

// begin records the run in the history.
func (b *Bank) begin(ctx context.Context, n int64, before *Total) error {
	var accounts *int64
	var total *string
	if before != nil {
		accounts, total = &before.Accounts, &before.Balance
	}
	return b.retry(ctx, "record the run in the history", func(ctx context.Context) error {
		// ON CONFLICT: a first attempt may have succeeded although its reply was lost.
		_, err := b.pool.Exec(ctx, `INSERT INTO loader.transfer_runs (id, target, table_id, seed, transfers, accounts, total)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`,
			b.ID, b.Accounts.Display(), int64(b.Accounts.OID), strconv.FormatUint(b.Seed, 10), n, accounts, total)
		return err
	})
}

// finish marks the run as finished in the history, and compares the two.
func (b *Bank) finish(ctx context.Context, res Result) error {
	var count int64
	var amount string
	err := b.retry(ctx, "record the end of the run in the history", func(ctx context.Context) error {
		if _, err := b.pool.Exec(ctx, `UPDATE loader.transfer_runs SET finished_at = now() WHERE id = $1`, b.ID); err != nil {
			return err
		}
		return b.pool.QueryRow(ctx, `SELECT count(*), COALESCE(sum(amount), 0)::TEXT FROM loader.transfers WHERE run = $1`, b.ID).Scan(&count, &amount)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", loader.ErrUnconfirmed, err)
	}
	if count != res.Transfers || amount != res.Amount.String() {
		return fmt.Errorf("%w: the run made %d transfers, %s in all, but its history has %d, %s in all", ErrMoney, res.Transfers, res.Amount, count, amount)
	}
	// The update that marks the run as finished is its last commit. If no commit up to that
	// one lacked its standby, the run is confirmed.
	if !b.sessions.Unwaited() {
		return nil
	}
	err = b.sessions.Confirm(ctx, b.pool, b.AttemptTimeout, b.RetryFor)
	if errors.Is(err, server.ErrUnwaited) {
		return fmt.Errorf("%w: the transfers are made, but %w", loader.ErrUnconfirmed, err)
	}
	return err
}

// small reports whether the table has at most MaxSummed accounts. It uses the server's
// statistics if there are any, and otherwise reads at most MaxSummed+1 rows.
func (b *Bank) small(ctx context.Context) (bool, error) {
	switch {
	case b.All:
		return true, nil
	case b.Accounts.EstimatedRows > 0:
		return b.Accounts.EstimatedRows <= MaxSummed, nil
	}
	var n int64
	err := b.withoutTimeout(ctx, "count accounts", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s LIMIT %d) AS first", b.Accounts.Name.Sanitize(), MaxSummed+1)).Scan(&n)
	})
	return n <= MaxSummed, err
}

// total sums all balances in one statement, thus in one snapshot.
func (b *Bank) total(ctx context.Context) (*Total, error) {
	var t Total
	err := b.withoutTimeout(ctx, "add the balances up", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, b.sql.total).Scan(&t.Accounts, &t.Balance)
	})
	return &t, err
}

// retry calls fn, which must be safe to repeat, until it succeeds, fails permanently, or
// RetryFor is over. Each call is bounded by AttemptTimeout: a connection may have gone silent.
func (b *Bank) retry(ctx context.Context, step string, fn func(context.Context) error) error {
	return b.repeat(ctx, step, func() error {
		ctx, cancel := context.WithTimeout(ctx, b.AttemptTimeout)
		defer cancel()
		return fn(ctx)
	})
}

// withoutTimeout is retry for statements that read whole tables and need an unbounded time.
// Only TCP keepalive detects a connection that has gone silent.
func (b *Bank) withoutTimeout(ctx context.Context, step string, fn func(*pgx.Conn) error) error {
	return b.repeat(ctx, step, func() error { return server.WithoutTimeout(ctx, b.pool, fn) })
}

func (b *Bank) repeat(ctx context.Context, step string, fn func() error) error {
	var failed error
	p := server.RetryPolicy{For: b.RetryFor, Judge: func(error) bool { return server.MayPass(failed) && !errors.Is(failed, pgx.ErrNoRows) }}
	err := p.Do(ctx, func() error {
		if failed = fn(); failed == nil {
			return nil
		}
		return server.Reasoned(failed)
	})
	switch {
	case err == nil:
		return nil
	case server.Stopped(ctx, err):
		return ctx.Err()
	}
	return fmt.Errorf("%s: %w", step, err)
}
