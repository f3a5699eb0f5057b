package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// ErrDropped: the load committed no row, and the table created for it was dropped again. The
// load is cancelled.
var ErrDropped = errors.New("no row was loaded, and the table created for the load was dropped")

// A droppedError is the error of a load whose table was dropped again.
type droppedError struct{ err error }

func (e *droppedError) Error() string { return fmt.Sprintf("%v; %v", e.err, ErrDropped) }

func (e *droppedError) Unwrap() []error { return []error{e.err, ErrDropped} }

// ErrorKind implements failure.Kinded.
func (e *droppedError) ErrorKind() failure.Kind { return server.ErrorKind(e.err) }

// dropTimeout bounds the cleanup that drops a table again.
const dropTimeout = 20 * time.Second

// unmake drops a table that a failed load created, if no row was committed and a resume cannot
// help: the next attempt should find the table missing again. It drops the table only if it is
// empty, still the created one, and used by no other load. It returns the load's error.
func (r *record) unmake(ctx context.Context, srv *server.Server, pool *pgxpool.Pool, table *server.Table, err error) error {
	if r.spec.Made == 0 || table == nil || err == nil {
		return err
	}
	switch server.ErrorKind(err) {
	case failure.Data, failure.Target, failure.Usage:
	default:
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	dropped := false
	var failed error
	name := table.Name.Sanitize()
	drop := func(ctx context.Context, tx pgx.Tx) (bool, error) {
		return dropEmpty(ctx, tx, srv.Product, name, r.spec.Made)
	}
	dropAlone := func() (ok bool, err error) {
		err = server.RetryOpening(ctx, func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { ok, err = drop(ctx, tx); return err })
		})
		return ok && err == nil, err
	}
	switch {
	case r.text == nil: // no record in the registry
		dropped, failed = dropAlone()
	case srv.Product == server.PostgreSQL:
		dropped, failed = r.registry.CancelUnused(ctx, r.load, r.spec.Made, drop)
	default:
		// CockroachDB cannot drop a table in a transaction that has locked a row: the load ends
		// first.
		var ended bool
		ended, failed = r.registry.CancelUnused(ctx, r.load, r.spec.Made, func(ctx context.Context, tx pgx.Tx) (bool, error) { return isEmpty(ctx, tx, name, r.spec.Made) })
		if failed == nil && ended {
			dropped, failed = dropAlone()
		}
	}
	if failed != nil || !dropped {
		return err // the table stays, like a table that someone else created
	}
	r.spec.Made = 0
	return &droppedError{err}
}

// dropEmpty drops a table if it is empty and has the given OID.
func dropEmpty(ctx context.Context, tx pgx.Tx, product server.Product, name string, oid uint32) (bool, error) {
	if product == server.PostgreSQL {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+name+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err != nil {
			return false, err
		}
	}
	if ok, err := isEmpty(ctx, tx, name, oid); err != nil || !ok {
		return false, err
	}
	_, err := tx.Exec(ctx, "DROP TABLE "+name)
	return err == nil, err
}

// isEmpty reports whether a table is empty and has the given OID.
func isEmpty(ctx context.Context, tx pgx.Tx, name string, oid uint32) (ok bool, err error) {
	err = tx.QueryRow(ctx, "SELECT $1::TEXT::REGCLASS::OID::INT8 = $2::INT8 AND NOT EXISTS (SELECT 1 FROM "+name+" LIMIT 1)", name, int64(oid)).Scan(&ok)
	return ok, err
}
