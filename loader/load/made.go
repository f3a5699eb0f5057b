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

// ErrDropped: the load put no row in, and the table that was made for it is dropped again. The
// load is cancelled.
var ErrDropped = errors.New("no row is in, and the table that was made for the load is dropped again")

// A droppedError is why a load failed whose table is dropped again.
type droppedError struct{ err error }

func (e *droppedError) Error() string { return fmt.Sprintf("%v; %v", e.err, ErrDropped) }

func (e *droppedError) Unwrap() []error { return []error{e.err, ErrDropped} }

// ErrorKind implements failure.Kinded.
func (e *droppedError) ErrorKind() failure.Kind { return kindOf(e.err) }

// kindOf returns the kind of an error, judged or not.
func kindOf(err error) failure.Kind {
	if k := failure.Of(err); k != failure.None {
		return k
	}
	if server.Code(err) != "" {
		return server.KindOf(err)
	}
	return failure.None
}

// dropTimeout bounds the end of a load whose table is dropped again.
const dropTimeout = 20 * time.Second

// unmake drops the table that the load made where it failed, for a reason that a resume does
// not mend, before it put a row in: the next attempt is to find the table missing again. The
// table is dropped only while it is empty, still the one that was made, and no other load's. It
// returns why the load failed.
func (r *record) unmake(ctx context.Context, srv *server.Server, pool *pgxpool.Pool, table *server.Table, err error) error {
	if r.spec.Made == 0 || table == nil || err == nil {
		return err
	}
	switch kindOf(err) {
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
	kept := r.text != nil
	switch {
	case kept && srv.Product == server.PostgreSQL:
		dropped, failed = r.registry.CancelUnused(ctx, r.load, drop)
	case kept:
		// CockroachDB drops nothing in a transaction that has locked a row: the load ends first.
		dropped, failed = r.registry.CancelUnused(ctx, r.load, func(ctx context.Context, tx pgx.Tx) (bool, error) { return isEmpty(ctx, tx, name, r.spec.Made) })
	}
	if failed == nil && dropped == kept && !(kept && srv.Product == server.PostgreSQL) {
		failed = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
			dropped, err = drop(ctx, tx)
			return err
		})
	}
	if failed != nil || !dropped {
		return err // the table stays, as one that somebody else made would
	}
	r.spec.Made = 0
	return &droppedError{err}
}

// dropEmpty drops a table, if it is the one with that OID, and empty.
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

// isEmpty reports whether a table is the one with that OID, and empty.
func isEmpty(ctx context.Context, tx pgx.Tx, name string, oid uint32) (ok bool, err error) {
	err = tx.QueryRow(ctx, "SELECT $1::TEXT::REGCLASS::OID::INT8 = $2::INT8 AND NOT EXISTS (SELECT 1 FROM "+name+" LIMIT 1)", name, int64(oid)).Scan(&ok)
	return ok, err
}
