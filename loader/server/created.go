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

// DescribeCreated is Describe of a table that was just created. Where the catalogue does not
// have it, it looks again for a while.
func DescribeCreated(ctx context.Context, db Querier, info Info, name pgx.Identifier) (*Table, error) {
	end := time.Now().Add(catalogLag)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		t, err := Describe(ctx, db, info, name)
		known := err == nil && len(t.Columns) > 0
		if known || err != nil && !errors.Is(err, ErrNoTable) || time.Now().Add(wait).After(end) {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
