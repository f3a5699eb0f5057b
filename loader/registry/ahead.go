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
	// loads are the unfinished loads into tables with that name in any schema.
	loads []Load
	asked bool // for them, and answered
}

// AskAhead asks db for the version of the registry, for the tunings of the table name, and, if
// wanted, for its unfinished loads, in one round trip. It writes nothing and never fails: Open and
// Unfinished ask again for what is missing.
func AskAhead(ctx context.Context, db server.Querier, name pgx.Identifier, kind string, unfinished bool) *Ahead {
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
	}, func(ctx context.Context, db server.Querier) error {
		if unfinished {
			var err error
			a.loads, err = unfinishedLoads(ctx, db, columnsOfLoads("generation"), "right(target, length($1::TEXT)) = $1::TEXT", a.table)
			a.asked = err == nil
		}
		return nil
	})
	return a
}

// unfinished returns the unfinished loads into a table, if a knows.
func (a *Ahead) unfinished(target string) (list []Load, known bool) {
	if a == nil || a.err != nil || !a.asked || !strings.HasSuffix(target, a.table) {
		return nil, false
	}
	for _, l := range a.loads {
		if l.Target == target {
			list = append(list, l)
		}
	}
	return list, true
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
