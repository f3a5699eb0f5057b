package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// catalogLag is how long a catalogue may not know of a change that the server has confirmed:
// from 26.1 on CockroachDB answers from a copy of it for a moment.
const catalogLag = 10 * time.Second

// LookAgain calls look, which asks the catalogue for what was just created, again for a while
// where it answers that there is no such thing: with an error that wraps missing.
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

// DescribeCreated is Describe of a table that was just created; see LookAgain.
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
