package load_test

import (
	"context"
	"testing"

	"bulkload/loader/loadertest"
)

// TestLedgerHasTheChunk has the ledger row of the second chunk committed, with its rows, before
// the run sends it without knowing: the rows go along with the ledger row, the server drops
// them, and the chunk counts as committed. Here the ledger row
// comes without its rows, which shows that none were sent a second time.
func TestLedgerHasTheChunk(t *testing.T) {
	srv := loadertest.PostgreSQLServer(t)
	which := func(s subject) bool { return inTransactions(s) && s.kind == "points" }
	eachIn(t, srv, subjects(srv), which, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.Chunk, sub.Workers = 10, 1
		x := sub.enter(t, url, url, 40)
		defer x.Close()
		loadertest.Exec(t, url, `INSERT INTO loader.ledger (load, lo, hi) SELECT id, 10, 20 FROM loader.loads WHERE id = '`+x.ID+`'`)
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
	})
}
