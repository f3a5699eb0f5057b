package registry_test

import (
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// TestClaimReadsUnderNoLock cuts a range for longer than an attempt at a transaction may
// take, while another run claims the same range. The cutting locks nothing, the run that
// comes back too late gets the next range, and both together have each position once.
func TestClaimReadsUnderNoLock(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		const positions, chunk = 1000, 10
		_, reg := entered(t, s, "propose0", positions)
		reg.AttemptTimeout, reg.RetryFor = 250*time.Millisecond, 10*time.Second
		slow, fast := reg.Queue("propose0", "slow0000"), reg.Queue("propose0", "fast0000")
		var has chunker.Ranges
		take := func(r chunker.Range) {
			t.Helper()
			if r.Len() == 0 {
				t.Fatalf("claimed %v", r)
			}
			for _, x := range has.All() {
				if x.First < r.End && r.First < x.End {
					t.Fatalf("%v was claimed twice: %v holds it", r, x)
				}
			}
			has.Add(r)
		}
		fast.Fit = func(r chunker.Range) (chunker.Range, error) { r.End -= 3; return r, nil }
		var asked []chunker.Range
		slow.Fit = func(r chunker.Range) (chunker.Range, error) {
			asked = append(asked, r)
			if len(asked) == 1 {
				c, err := fast.Claim(t.Context(), chunk)
				if err != nil {
					t.Errorf("a claim beside a source that is being cut: %v", err)
				}
				take(c.Range)
				<-time.After(2 * reg.AttemptTimeout) // a slow disk
			}
			r.End -= 7
			return r, nil
		}
		c, err := slow.Claim(t.Context(), chunk)
		if err != nil {
			t.Fatal(err)
		}
		take(c.Range)
		if len(asked) != 2 || asked[0].First != 0 || c.First != asked[1].First || c.End != asked[1].End-7 {
			t.Errorf("claimed %v after the proposals %v, want the second one, cut", c.Range, asked)
		}
		for {
			c, err := fast.Claim(t.Context(), chunk)
			if err != nil {
				break // the rest is held by a run that has no session here, or by nobody
			}
			take(c.Range)
			if c.End == positions {
				break
			}
		}
		if has.Len() != positions {
			t.Errorf("%d of %d positions were claimed", has.Len(), positions)
		}
	})
}

// TestClaimOfWhatIsFree has a run claim the leases of a load that nobody else works on. It knows
// what is free, so that each claim asks Fit once, for the range that it gets, and takes two round
// trips. A run that does not know, and one that another one came in between of, ask again.
func TestClaimOfWhatIsFree(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		const positions, chunk = 10_000, 10
		url, _ := entered(t, s, "free0000", positions)
		proxy := loadertest.NewProxy(t, url)
		proxy.Distance(10*time.Millisecond, 0) // longer than a pause of a busy machine
		reg, _ := open(t, proxy.URL())
		var asked []chunker.Range
		queue := func(run string, free ...chunker.Range) *registry.Queue {
			q := reg.Queue("free0000", run)
			q.Free = free
			q.Fit = func(r chunker.Range) (chunker.Range, error) {
				asked = append(asked, r)
				r.End -= 3
				return r, nil
			}
			return q
		}
		alone, other := queue("alone000", chunker.Range{End: positions}), queue("other000")
		end := int64(0)
		claim := func(q *registry.Queue, asks, trips int) {
			t.Helper()
			asked = nil
			before := proxy.Stats().Trips
			c, err := q.Claim(t.Context(), chunk)
			if err != nil || c.First != end || len(asked) != asks || c.End != asked[asks-1].End-3 {
				t.Fatalf("claimed %v after the proposals %v, %v; want positions from %d, and %d proposals", c.Range, asked, err, end, asks)
			}
			if n := proxy.Stats().Trips - before; trips > 0 && n != trips {
				t.Errorf("positions from %d: %d round trips, want %d", end, n, trips)
			}
			end = c.End
		}
		claim(alone, 1, 0) // it may open a session
		claim(alone, 1, 2)
		claim(alone, 1, 2)
		claim(other, 1, 4)
		claim(alone, 2, 4)
		claim(alone, 1, 2)
	})
}
