package registry

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/server"
)

// permanentError marks errors of this package that no retry can fix.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// transientError marks server errors that are retried here.
type transientError struct{ error }

func (e transientError) Unwrap() error { return e.error }

func isTransient(err error) bool {
	var p transientError
	return errors.As(err, &p)
}

func isPermanent(err error) bool {
	var o permanentError
	return errors.As(err, &o)
}

// retry runs fn in a transaction until it commits: with cockroach-go's loop on CockroachDB, in
// fresh transactions whose COMMIT is checked on PostgreSQL. fn must be idempotent, because the
// reply of a COMMIT may be lost.
func (r *Registry) retry(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return r.retryFor(ctx, func() error {
		err := r.try(ctx, fn)
		var locked lockedError
		if errors.As(err, &locked) {
			r.endSilent(ctx, locked.load)
		}
		return err
	})
}

// retriesInside is how often cockroach-go retries a transaction on its connection.
const retriesInside = 5

// try makes one attempt.
func (r *Registry) try(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.AttemptTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return server.Transact(ctx, r.info.Product, conn.Conn(), retriesInside, func(tx pgx.Tx) error { return fn(ctx, tx) })
}

// exec runs one idempotent statement until it succeeds.
func (r *Registry) exec(ctx context.Context, sql string, args ...any) error {
	return r.persist(ctx, func(ctx context.Context) error {
		_, err := r.pool.Exec(ctx, sql, args...)
		return err
	})
}

// persist is retryFor with AttemptTimeout for each call: the context of fn ends with the
// attempt.
func (r *Registry) persist(ctx context.Context, fn func(context.Context) error) error {
	return r.retryFor(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, r.AttemptTimeout)
		defer cancel()
		return fn(ctx)
	})
}

// retryFor calls fn until it succeeds, fails permanently, or has failed for RetryFor. Time
// before the first failure does not count.
func (r *Registry) retryFor(ctx context.Context, fn func() error) error {
	if r.once {
		return fn()
	}
	p := server.RetryPolicy{For: r.RetryFor, Judge: func(err error) bool {
		return !isPermanent(err) && !errors.Is(err, loader.ErrLost) && (server.MayPass(err) || isTransient(err))
	}}
	return p.Do(ctx, fn)
}
