//go:build chaos

package bank_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
)

// TestNodesAreStoppedInTurn stops and starts each node of a cluster of three while
// transfers are made.
func TestNodesAreStoppedInTurn(t *testing.T) {
	c := loadertest.ThreeNodes(t)
	var retries int64
	for node := range 3 {
		url := c.NewDatabase(t, fmt.Sprintf("bank%d", node), node)
		l := &ledger{accounts: fill(t, url, 100, 1000)}
		made := make(chan struct{})
		enough := make(chan struct{}) // the run makes transfers until then
		b := open(t, url, bank.Options{Workers: 4, RetryFor: 3 * time.Minute, AttemptTimeout: 10 * time.Second, Stop: enough, Observe: func(tr bank.Transfer) {
			l.observe(tr)
			select {
			case made <- struct{}{}:
			default:
			}
		}})
		ended := make(chan struct{})
		var res bank.Result
		var err error
		go func() {
			defer close(ended)
			res, err = b.Run(context.Background(), 1_000_000)
		}()
		some := func(when string) {
			for range 20 {
				select {
				case <-made:
				case <-ended:
					t.Fatalf("ended %s: %v", when, err)
				}
			}
		}
		some("before a node was stopped")
		c.Stop(t, node)
		some("while a node was away")
		c.Start(t, node)
		some("behind its return")
		close(enough)
		<-ended
		b.Close()
		t.Logf("node %d: %d transfers, %d retries, %d look-ups, %v", node, res.Transfers, res.Retries, res.LookUps, err)
		retries += res.Retries
		checkBank(t, url, l)
	}
	if retries == 0 {
		t.Error("no transfer was made again")
	}
}
