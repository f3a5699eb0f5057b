package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// chainOf runs a command over a network and returns how many round trips it waits for, one after
// the other, without those of TCP, TLS and password, and what was asked.
func chainOf(t *testing.T, url string, args ...string) (int, string) {
	t.Helper()
	p := loadertest.NewProxy(t, url)
	defer p.Close()
	p.Distance(10*time.Millisecond, 0)
	mustRun(t, p.URL(), args...)
	st := p.Stats()
	t.Logf("%s: a chain of %d, %d trips", strings.Join(args, " "), st.Chain, st.Trips)
	return st.Chain, strings.Join(st.Asked, "\n")
}

// TestRoundTrips holds how many round trips open and close a load of one chunk.
func TestRoundTrips(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		mustRun(t, url, "points", "--n", "1")
		points := filepath.Join(t.TempDir(), "points.csv")
		var lines strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&lines, "%d,0.5,%d.25,1\n", i, i)
		}
		if err := os.WriteFile(points, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, load := range [][]string{
			{"points", "--n", "1000"},
			{"csv", points, "--table", "points", "--columns", "id,x,y,z", "--header", "no", "--via", "insert"},
		} {
			n, asked := 0, ""
			for range 10 { // on a busy machine a claim may come before a chunk instead of beside it
				loadertest.Exec(t, url, "TRUNCATE points")
				if n, asked = chainOf(t, url, load...); n <= 14 {
					break
				}
			}
			if n > 14 {
				t.Errorf("a load of one chunk waits for %d trips, want 14 at most:\n%s", n, asked)
			}
		}
	})
}

// TestRoundTripsOfMore holds how many each further chunk takes, whose leases are claimed and
// released beside it, and each further transfer.
func TestRoundTripsOfMore(t *testing.T) {
	loadertest.Slow(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		mustRun(t, url, "points", "--n", "1")
		each := 2 // BEGIN, the ledger row and the rows; COMMIT
		if s.Cockroach {
			each = 1 // a statement
		}
		few, _ := chainOf(t, url, "points", "--n", "20000", "--chunk", "1000", "--workers", "1")
		lots, asked := chainOf(t, url, "points", "--n", "40000", "--chunk", "1000", "--workers", "1")
		if n := lots - few; n > 20*each+4 {
			t.Errorf("20 more chunks wait for %d trips, want %d each:\n%s", n, each, asked)
		}
		if s.Cockroach {
			// Rows and ledger row with what opens the transaction; what commits it.
			n, asked := 0, ""
			for range 3 { // a claim may come before a chunk instead of beside it
				few, _ := chainOf(t, url, "points", "--n", "20000", "--chunk", "1000", "--workers", "1", "--commit", "transaction")
				n, asked = chainOf(t, url, "points", "--n", "40000", "--chunk", "1000", "--workers", "1", "--commit", "transaction")
				if n -= few; n <= 20*2+4 {
					break
				}
			}
			if n > 20*2+4 {
				t.Errorf("20 more chunks by transaction wait for %d trips, want 2 each:\n%s", n, asked)
			}
		}
		mustRun(t, url, "accounts", "--n", "100")
		mustRun(t, url, "transfer", "--n", "1")
		const more = 10
		one, _ := chainOf(t, url, "transfer", "--n", "1", "--workers", "1")
		many, asked := chainOf(t, url, "transfer", "--n", "11", "--workers", "1")
		if n := many - one; n > 3*more+2 { // a retry
			t.Errorf("%d more transfers wait for %d trips, want 3 each:\n%s", more, n, asked)
		}
	})
}

// TestPlanSaysTheRoundTrip holds what a plan says of a far server.
func TestPlanSaysTheRoundTrip(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		const rtt = 40
		p := loadertest.NewProxy(t, url)
		p.Distance(rtt*time.Millisecond, 0)
		said := regexp.MustCompile(`a round trip takes (\d+)ms, so a chunk waits (\d+)ms for the network`)
		for mode, trips := range map[string]int{"statement": 1, "transaction": 2} {
			out := mustRun(t, p.URL(), "plan", "points", "--n", "100000", "--commit", mode)
			m := said.FindStringSubmatch(out)
			if m == nil {
				t.Errorf("by %s the plan says nothing of the network:\n%s", mode, out)
				continue
			}
			trip, _ := strconv.Atoi(m[1])
			waits, _ := strconv.Atoi(m[2])
			if trip < rtt || waits < trips*trip-trips || waits > trips*trip+trips {
				t.Errorf("by %s the plan says %q, want %d trips of at least %d ms", mode, m[0], trips, rtt)
			}
		}
	})
}
