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
		most := 34
		if s.Cockroach {
			most = 40
		}
		if n, asked := chain("points", "--n", "1000"); n > most {
			t.Errorf("a load of one chunk waits for %d trips, want %d at most:\n%s", n, most, strings.Join(asked, "\n"))
		}
		const more = 10
		one, _ := chain("transfer", "--n", "1", "--workers", "1")
		many, asked := chain("transfer", "--n", "11", "--workers", "1")
		if n := many - one; n > 3*more+2 { // a retry
			t.Errorf("%d more transfers wait for %d trips, want 3 each:\n%s", more, n, strings.Join(asked, "\n"))
		}
	})
}
