package loader

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"bulkload/chunker"
)

// TestReserveThatIsUsedUp takes the last span of the lane in reserve, as a worker does
// that then looks for more: the claimer must not wait for somebody to take it up.
func TestReserveThatIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRun(&Job{Positions: 100})
		r.lanes = []*lane{{owner: nobody, spans: r.cut()}} // given back by a worker that was dismissed
		go r.claimAhead(t.Context())
		synctest.Wait() // it waits, for there is a lane in reserve
		if _, _, err := r.take(func(*lane) bool { return true }); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := <-r.claimed; err != nil {
			t.Error(err)
		}
		// The same where the lane is given back as done.
		whole := chunker.Range{End: 10}
		l := &lane{owner: nobody, open: 1, claim: Claim{Range: whole}, spans: r.cut(whole)}
		l.claim.Done.Add(whole)
		r.mu.Lock()
		r.lanes = []*lane{l}
		r.mu.Unlock()
		synctest.Wait()
		r.close(context.Background(), l)
		if err := <-r.claimed; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		close(r.over)
	})
}
