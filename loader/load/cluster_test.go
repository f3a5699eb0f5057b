//go:build chaos

package load_test

import (
	"fmt"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestNodesAreStoppedInTurn stops and starts each node of a cluster of three while a
// load runs on it, which knows all of their addresses.
func TestNodesAreStoppedInTurn(t *testing.T) {
	c := loadertest.ThreeNodes(t)
	for i, sub := range few(subjects(loadertest.Server{Cockroach: true, Product: server.CockroachDB})) {
		t.Run(sub.String(), func(t *testing.T) {
			var retries int64
			for node := range 3 {
				url := c.NewDatabase(t, fmt.Sprintf("turn%d%d", i, node), node)
				const n = 40_000
				sub.Chunk, sub.RetryFor, sub.ChunkTimeout = 20, 3*time.Minute, 10*time.Second
				some, back := make(chan struct{}, 1), make(chan struct{})
				sub.Observe = func(loader.Event) {
					select {
					case some <- struct{}{}:
					default:
					}
					// A node of 26.1 takes its time to stop: until it is back the load is slow.
					select {
					case <-back:
					case <-time.After(40 * time.Millisecond):
					}
				}
				x := sub.startDirect(t, url, n)
				x.await(some)
				c.Stop(t, node)
				// The other two go on: rows arrive while the node is away. What was told
				// of before does not count.
				select {
				case <-some:
				default:
				}
				if !x.await(some) {
					t.Error("the load ended before the node was away")
				}
				c.Start(t, node)
				close(back)
				retries += x.mustEnd(t).Retries
				sub.exact(t, url, x.Load, n)
			}
			t.Logf("each node stopped and started once: %d retries", retries)
			if retries == 0 {
				t.Error("no chunk was sent again: the nodes were stopped behind the loads")
			}
		})
	}
}

// await waits for the next of some, and reports false when the load ends without.
func (x *trial) await(some <-chan struct{}) bool {
	select {
	case <-some:
		return true
	case <-x.done:
		return false
	}
}
