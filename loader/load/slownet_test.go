package load_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// TestSlowNetwork gives every message a delay and the wire few bytes a second: a load is
// exact, its chunks do not run into their deadline, and memory stays within bounds,
// although rows are made faster than they leave.
func TestSlowNetwork(t *testing.T) {
	loadertest.Long(t)
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		const n = 2000
		sub.Chunk, sub.Workers = 100, 3
		var peak atomic.Uint64
		stop := make(chan struct{})
		t.Cleanup(func() { close(stop) })
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		go func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					peak.Store(max(peak.Load(), now.HeapInuse))
				}
			}
		}()
		first := loadertest.Match{Kind: loadertest.MsgStatement}
		x := sub.start(t, url, n,
			&loadertest.Fault{When: first, Do: loadertest.Throttle, BytesPerSecond: 64 << 10},
			&loadertest.Fault{When: first, Times: -1, Do: loadertest.Delay, Delay: 50 * time.Millisecond})
		if res := x.mustEnd(t); res.Retries > 0 {
			t.Errorf("%d retries on a network that is only slow", res.Retries)
		}
		x.proxy.Heal()
		// The proxy's own buffers are in it: 256 KiB for each of five connections.
		if used := int64(peak.Load()) - int64(before.HeapInuse); used > 64<<20 {
			t.Errorf("the heap grew by %d MiB", used>>20)
		}
		sub.exact(t, url, x.Load, n)
	})
}
