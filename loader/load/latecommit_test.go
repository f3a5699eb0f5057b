package load_test

import (
	"context"
	"regexp"
	"testing"

	"bulkload/loader"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

var (
	rowsText = regexp.MustCompile(`(?is)` + rowsOf)
	endText  = regexp.MustCompile(`(?is)^(COMMIT|ROLLBACK|RELEASE SAVEPOINT cockroach_restart)`)
)

// chunkEnds matches the end of a transaction that has rows.
func chunkEnds() loadertest.Match {
	open := map[int]bool{} // by connection
	return loadertest.Match{Kind: loadertest.MsgStatement, Func: func(m *loadertest.Message) bool {
		if !endText.MatchString(m.SQL) {
			open[m.Conn] = open[m.Conn] || rowsText.MatchString(m.SQL)
			return false
		}
		was := open[m.Conn]
		delete(open, m.Conn)
		return was
	}}
}

// TestCommitBehindARelease has the claim of a run given back while the COMMIT of one of its
// chunks is on its way, as it is where the run has lost patience with it and gives up. What
// the record then says is in is what is in the table.
//
// CockroachDB needs no lock for that: who reads the ledger waits for a row that is being
// written, and a transaction that has read a claim does not commit behind its deletion.
func TestCommitBehindARelease(t *testing.T) {
	srv := loadertest.PostgreSQLServer(t)
	which := func(s subject) bool { return inTransactions(s) && s.kind == "points" }
	eachIn(t, srv, subjects(srv), which, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.Chunk, sub.Workers = 10, 1
		fault := &loadertest.Fault{When: chunkEnds(), Do: loadertest.BlackHole}
		x := sub.start(t, url, 400, fault)
		<-fault.Done()
		ctx, at := context.Background(), loadertest.Open(t, url)
		pool, err := at.Pool(ctx, server.Sessions{Name: "releases", Max: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer server.ClosePool(pool)
		reg, err := registry.Open(ctx, pool, at.Info)
		if err != nil {
			t.Fatal(err)
		}
		var c loader.Lease // with the first chunk
		c.End = loadertest.Value[int64](t, url, "SELECT hi FROM loader.claims WHERE lo = 0")
		queue := reg.Queue(x.ID, load.RunOf(x.Load))
		queue.Ledger = true
		released := make(chan error)
		go func() { released <- queue.Release(ctx, c) }()
		ended := false
		loadertest.Eventually(t, "the release waits for the chunk, or ends", func() bool {
			select {
			case err = <-released:
				ended = true
			default:
			}
			return ended || loadertest.Value[int64](t, url, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'releases' AND wait_event_type = 'Lock'`) > 0
		})
		x.proxy.Heal() // the COMMIT arrives
		if !ended {
			err = <-released
		}
		if err != nil {
			t.Fatal(err)
		}
		x.wait() // it has lost its claim
		in, err := reg.In(ctx, x.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n := sub.count(t, url); n == 0 || in.Len() != n {
			t.Errorf("%d rows are in, and %d positions are recorded", n, in.Len())
		}
		// Nobody looks for a ledger row outside of the claims: a run that cuts other chunks
		// sends its rows again.
		if n := loadertest.Value[int64](t, url, `SELECT count(*) FROM loader.ledger l WHERE NOT EXISTS (
			SELECT 1 FROM loader.claims c WHERE c.load = l.load AND c.lo <= l.lo AND c.hi >= l.hi)`); n > 0 {
			t.Errorf("%d chunks of a claim came behind its release", n)
		}
	})
}
