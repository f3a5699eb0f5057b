package load_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/loadertest"
)

// slow makes a network slow, from the first statement on: each is delayed, and the wire
// takes few bytes a second.
func slow() []*loadertest.Fault {
	first := loadertest.Match{Kind: loadertest.MsgStatement}
	return []*loadertest.Fault{
		{When: first, Do: loadertest.Throttle, BytesPerSecond: 64 << 10},
		{When: first, Times: -1, Do: loadertest.Delay, Delay: 50 * time.Millisecond},
	}
}

// TestSlowNetwork loads over a slow network: exact, and no chunk runs into its deadline.
func TestSlowNetwork(t *testing.T) {
	loadertest.Long(t)
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		const n = 2000
		sub.Chunk, sub.Workers = 100, 3
		x := sub.start(t, url, n, slow()...)
		if res := x.mustEnd(t); res.Retries > 0 {
			t.Errorf("%d retries on a network that is only slow", res.Retries)
		}
		x.proxy.Heal()
		sub.exact(t, url, x.Load, n)
	})
}

// TestSlowNetworkTakesNoMemory has rows made much faster than they leave, and many more
// than the memory that a load may use: what lives is the chunks of the workers, and no
// queue of them.
func TestSlowNetworkTakesNoMemory(t *testing.T) {
	loadertest.Long(t)
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		const n = 1_000_000    // 32 MB of points, or 19 of text
		const bound = 12 << 20 // files are read by the MiB, and the proxy takes 768 KiB for each of five connections
		stop := make(chan struct{})
		chunks := 0
		var most uint64
		sub.Chunk, sub.Workers, sub.Stop = 100, 3, stop
		sub.Observe = func(loader.Event) {
			most = max(most, live())
			if chunks++; chunks == 8 {
				close(stop)
			}
		}
		proxy := loadertest.NewProxy(t, url)
		x := sub.enter(t, proxy.URL(), url, n)
		t.Cleanup(proxy.CloseAll)
		before := live()
		proxy.Add(slow()...)
		x.run(t)
		if _, err := x.wait(); !errors.Is(err, loader.ErrStopped) {
			t.Fatal(err)
		}
		grown := int64(most) - int64(before)
		t.Logf("%d KiB more are alive after some chunks", grown>>10)
		if grown > bound {
			t.Errorf("%d KiB more are alive, want %d at most", grown>>10, bound>>10)
		}
	})
}

// live returns the bytes of the heap that are in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
