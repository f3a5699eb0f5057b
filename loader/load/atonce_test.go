package load_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// TestLedgerHasTheChunk has the ledger row of the second chunk committed before the run sends it
// without knowing, in one round trip with its rows: the server drops the rows, and the chunk counts
// as committed. First the ledger row is there without its rows, which shows that none were sent a
// second time; then with the rows, which the server refuses as duplicates.
func TestLedgerHasTheChunk(t *testing.T) {
	which := func(s subject) bool { return inTransactions(s) && s.kind == "points" }
	const entry = "INSERT INTO loader.ledger (load, lo, hi) SELECT id, %d, %d FROM loader.loads WHERE id = '%s'"
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		eachIn(t, srv, subjects(srv), which, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
			sub.Chunk, sub.Workers = 10, 1
			x := sub.enter(t, url, url, 40)
			defer x.Close()
			loadertest.Exec(t, url, fmt.Sprintf(entry, 10, 20, x.ID))
			res, err := x.Load.Run(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if res.AlreadyCommittedRows != 10 || res.Rows != 40 {
				t.Errorf("got %+v, want 10 of 40 rows already committed", res)
			}
			if n := sub.count(t, url); n != 30 {
				t.Errorf("%d rows are in, want the 30 that the ledger did not have", n)
			}
			if sub.Method != commit.Insert {
				return
			}
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL, "INSERT INTO kv SELECT i, 7 * i FROM generate_series(10, 19) AS g (i)")
			text, want := fileWithout(40, nil)
			req := byStatement(t, text, commit.Insert, 10)
			req.CommitMode = commit.Transaction
			l := newLoad(t, url, req)
			second := strings.Index(text, "10,70\n") // positions are bytes
			loadertest.Exec(t, url, fmt.Sprintf(entry, second, strings.Index(text, "20,140\n"), l.ID))
			if res, err := l.Run(context.Background()); err != nil || res.AlreadyCommittedRows == 0 {
				t.Errorf("a file: got %+v, %v; want a chunk already committed", res, err)
			}
			if got := table(t, url, "SELECT k::TEXT, v::TEXT FROM kv"); !slices.Equal(got, want) {
				t.Errorf("a file: the table has %d rows, want %d", len(got), len(want))
			}
		})
	})
}
