package registry

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// An Ahead holds answers that the opening of a registry needs, asked together with other
// questions to spare round trips.
type Ahead struct {
	version int
	err     error // of the query for the version
	table   string
	kind    string
	tunings []Tuning // of tables with that name in any schema
	untuned error    // why there are none
}

// AskAhead asks db for the version of the registry and for the tunings of the table name, in one
// round trip. It writes nothing and never fails: Open asks again for what is missing.
func AskAhead(ctx context.Context, db server.Querier, name pgx.Identifier, kind string) *Ahead {
	a := &Ahead{table: server.Display(name[len(name)-1:]), kind: kind}
	server.Together(ctx, db, func(ctx context.Context, db server.Querier) error {
		a.err = db.QueryRow(ctx, probe).Scan(&a.version)
		return nil
	}, func(ctx context.Context, db server.Querier) error {
		var found pgx.Rows
		if found, a.untuned = db.Query(ctx, `SELECT target, what, chunk, workers, via, way, origin FROM loader.tuning WHERE what = $1 AND right(target, length($2::TEXT)) = $2::TEXT`, kind, a.table); a.untuned == nil {
			a.tunings, a.untuned = pgx.CollectRows(found, scanTuning)
		}
		return nil
	})
	return a
}

// tuning returns the saved tuning for a table and a kind of rows, if a knows. known is false if
// only the server does.
func (a *Ahead) tuning(target, kind string) (t Tuning, ok, known bool) {
	if a == nil || a.err != nil || a.untuned != nil || kind != a.kind || !strings.HasSuffix(target, a.table) {
		return t, false, false
	}
	for _, t := range a.tunings {
		if t.Target == target {
			return t, true, true
		}
	}
	return t, false, true
}
