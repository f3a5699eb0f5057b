package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A TimeoutPool is a pool whose calls end after Timeout without an answer: a connection may
// have gone silent. The errors then wrap context.DeadlineExceeded, which [Classify] treats as
// uncertain. Methods promoted from Pool have no timeout.
type TimeoutPool struct {
	*pgxpool.Pool
	Timeout time.Duration
	// Heard, when not nil, is called at each answer from the server.
	Heard func()
}

// answered calls Heard if err, the result of a call, shows that the server answered.
func (b TimeoutPool) answered(err error) {
	if b.Heard != nil && (err == nil || errors.Is(err, pgx.ErrNoRows) || Code(err) != "") {
		b.Heard()
	}
}

// Deadline returns a context that ends Timeout from now.
func (b TimeoutPool) Deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, b.Timeout)
}

// Exec is Pool.Exec with the timeout.
func (b TimeoutPool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	ctx, cancel := b.Deadline(ctx)
	defer cancel()
	tag, err := b.Pool.Exec(ctx, sql, args...)
	b.answered(err)
	return tag, err
}

// QueryRow is Pool.QueryRow with the timeout, which runs until Scan.
func (b TimeoutPool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	ctx, cancel := b.Deadline(ctx)
	return timeoutRow{b.Pool.QueryRow(ctx, sql, args...), b, cancel}
}

// Query is Pool.Query with the timeout, which runs until the rows are closed.
func (b TimeoutPool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	ctx, cancel := b.Deadline(ctx)
	found, err := b.Pool.Query(ctx, sql, args...)
	b.answered(err)
	if err != nil {
		cancel()
		return found, err
	}
	return timeoutRows{found, cancel}, nil
}

type timeoutRow struct {
	pgx.Row
	of     TimeoutPool
	cancel context.CancelFunc
}

func (r timeoutRow) Scan(dest ...any) error {
	defer r.cancel()
	err := r.Row.Scan(dest...)
	r.of.answered(err)
	return err
}

type timeoutRows struct {
	pgx.Rows
	cancel context.CancelFunc
}

func (r timeoutRows) Close() {
	r.Rows.Close()
	r.cancel()
}
