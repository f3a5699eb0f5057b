package main

import (
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// TestRoundTrips holds how many round trips commands wait for, one after the other: what opens
// and closes a load of one chunk, and what each further transfer takes.
func TestRoundTrips(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		mustRun(t, url, "points", "--n", "1")
		mustRun(t, url, "accounts", "--n", "100")
		mustRun(t, url, "transfer", "--n", "1")
		chain := func(args ...string) (int, []string) {
			p := loadertest.NewProxy(t, url)
			defer p.Close()
			p.Distance(20*time.Millisecond, 0)
			mustRun(t, p.URL(), args...)
			st := p.Stats()
			t.Logf("%s: a chain of %d, %d trips", strings.Join(args, " "), st.Chain, st.Trips)
			return st.Chain, st.Asked
		}
		// Without TCP, TLS and password, whose round trips the proxy does not count.
		const most = 14
		if n, asked := chain("points", "--n", "1000"); n > most {
			t.Errorf("a load of one chunk waits for %d trips, want %d at most:\n%s", n, most, strings.Join(asked, "\n"))
		}
		// Chunks one after the other: leases are claimed and released beside them.
		each := 2 // BEGIN, the ledger row and the rows; COMMIT
		if s.Cockroach {
			each = 1 // a statement
		}
		few, _ := chain("points", "--n", "20000", "--chunk", "1000", "--workers", "1")
		lots, asked := chain("points", "--n", "40000", "--chunk", "1000", "--workers", "1")
		if n := lots - few; n > 20*each+4 {
			t.Errorf("20 more chunks wait for %d trips, want %d each:\n%s", n, each, strings.Join(asked, "\n"))
		}
		const more = 10
		one, _ := chain("transfer", "--n", "1", "--workers", "1")
		many, asked := chain("transfer", "--n", "11", "--workers", "1")
		if n := many - one; n > 3*more+2 { // a retry
			t.Errorf("%d more transfers wait for %d trips, want 3 each:\n%s", more, n, strings.Join(asked, "\n"))
		}
	})
}
