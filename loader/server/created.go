package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// catalogLag bounds how long the catalogue may miss a change that the server has confirmed:
// CockroachDB from 26.1 on briefly answers from a cached copy.
const catalogLag = 10 * time.Second

// LookAgain repeats look, a catalogue query for a new object, while its error wraps missing.
// It gives up after catalogLag (10 s) and returns the last result of look, or the error of
// ctx.
func LookAgain(ctx context.Context, missing error, look func() error) error {
	end := time.Now().Add(catalogLag)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := look()
		if !errors.Is(err, missing) || time.Now().Add(wait).After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
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
