package server

import (
	"context"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// An Execer runs statements: a connection, a pool or a transaction of pgx.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// createTries is how often something is made that others may be making.
const createTries = 5

// CreateIfMissing makes a schema or a table, by a statement that has IF NOT EXISTS. That
// does not keep two loaders from making the same thing at once: PostgreSQL answers one of
// them with 23505, and it is there at the next attempt. The error is a *CreateError, of
// what and name.
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

// madeByOthers reports whether somebody else may be making the same: a table comes with a
// type of its name.
func madeByOthers(err error) bool {
	switch Code(err) {
	case pgerrcode.DuplicateSchema, pgerrcode.DuplicateTable, pgerrcode.DuplicateObject:
		return true
	}
	c := Classify(err)
	return c == Duplicate || c == Retry
}
