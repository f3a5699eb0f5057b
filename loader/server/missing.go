package server

import (
	"context"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// An Execer executes statements: a connection, a pool or a transaction of pgx.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// createTries bounds the attempts to create an object that others may be creating.
const createTries = 5

// CreateIfMissing creates a schema or a table. ddl must have IF NOT EXISTS. That clause does
// not cover two loaders creating the same object at once: PostgreSQL answers one of them with
// 23505, and the object exists at the next attempt. The error is a *CreateError with what and
// name.
func CreateIfMissing(ctx context.Context, db Execer, what, name, ddl string) error {
	var err error
	for range createTries {
		if _, err = db.Exec(ctx, ddl); err == nil || !madeByOthers(err) {
			break
		}
	}
	if err != nil {
		return &CreateError{Kind: what, Name: name, Err: err}
	}
	return nil
}

// madeByOthers reports whether somebody else may be creating the same object. A table also
// creates a type of its name, hence DuplicateObject.
func madeByOthers(err error) bool {
	switch Code(err) {
	case pgerrcode.DuplicateSchema, pgerrcode.DuplicateTable, pgerrcode.DuplicateObject:
		return true
	}
	c := Classify(err)
	return c == Duplicate || c == Retry
}
