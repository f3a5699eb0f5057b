package registry_test

import (
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader/loadertest"
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
