package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/failure"
)

// catalogLag bounds how long the catalogue may miss a change that the server has confirmed:
// CockroachDB from 26.1 on briefly answers from a cached copy.
const catalogLag = 10 * time.Second

// LookAgain repeats look, a catalogue query for a new object, while its error wraps missing.
// It gives up after catalogLag (10 s) and returns the last result of look, or the error of
// ctx.
func LookAgain(ctx context.Context, missing error, look func() error) error {
	waits := RetryPolicy{First: 20 * time.Millisecond, Last: time.Second, For: catalogLag}.Waits()
	for {
		err := look()
		if !errors.Is(err, missing) {
			return err
		}
		switch over := waits.Wait(ctx, err); {
		case errors.Is(over, failure.ErrGaveUp):
			return err
		case over != nil:
			return over
		}
	}
}

// DescribeCreated is Describe for a table that was just created; see LookAgain.
func DescribeCreated(ctx context.Context, db Querier, info Info, name pgx.Identifier) (t *Table, err error) {
	err = LookAgain(ctx, ErrNoTable, func() error {
		t, err = Describe(ctx, db, info, name)
		if err == nil && len(t.Columns) == 0 {
			err = noTable(name, "")
		}
		return err
	})
	return t, err
}
