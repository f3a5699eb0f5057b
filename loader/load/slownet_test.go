package load_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
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

// TestSlowLinks leaves workers and chunks to the loader, over links that are far and carry 64 KiB
// to 10 MiB a second and connection: the load is exact, nothing is sent twice, and memory stays
// bounded.
func TestSlowLinks(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		url := srv.NewDatabase(t)
		method := commit.Copy
		if srv.Cockroach {
			method = commit.Insert
		}
		for _, link := range []struct {
			rate int
			n    int64
		}{{64 << 10, 10_000}, {1 << 20, 100_000}, {10 << 20, 400_000}} {
			clearTables(t, url)
			proxy := loadertest.NewProxy(t, url)
			proxy.Distance(50*time.Millisecond, link.rate)
			const bound = 48 << 20 // of it 24 in the proxy
			var mu sync.Mutex
			var most uint64
			l := newLoad(t, proxy.URL(), load.Request{Dataset: dataset.NewPoints(link.n, 5), Settings: load.Settings{Method: method, Observe: func(loader.Event) {
				mu.Lock()
				defer mu.Unlock()
				most = max(most, live())
			}}})
			before := live()
			res, err := l.Run(context.Background())
			if err != nil || res.Retries > 0 {
				t.Fatalf("%d bytes/s: %d retries, %v", link.rate, res.Retries, err)
			}
			grown := int64(most) - int64(before)
			t.Logf("%d bytes/s: %d rows/s, chunks of %d, %d workers, %d KiB more are alive", link.rate, int64(float64(link.n)/res.Elapsed.Seconds()), res.RowsPerChunk, res.Workers, grown>>10)
			if grown > bound {
				t.Errorf("%d bytes/s: %d KiB more are alive, want %d at most", link.rate, grown>>10, bound>>10)
			}
			checkExact(t, url, l, link.n)
		}
	})
}

// TestSessionsOpenAhead opens loads of a far server, which have sessions for their workers before
// they run: as many as there are workers, or chunks.
func TestSessionsOpenAhead(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		url := srv.NewDatabase(t)
		for _, workers := range []int{7, 2} {
			begin := time.Now()
			clearTables(t, url)
			if d := time.Since(begin); d > 2*time.Minute { // a lease that nobody gives back ends after five
				t.Errorf("sessions that wait kept the tables from being dropped for %v", d)
			}
			proxy := loadertest.NewProxy(t, url)
			proxy.Distance(20*time.Millisecond, 0)
			newLoad(t, proxy.URL(), load.Request{Dataset: dataset.NewPoints(1_000_000, 5), Settings: load.Settings{Method: commit.Insert, Workers: workers}})
			// One asked the server what it is.
			loadertest.Eventually(t, "the sessions of the workers", func() bool { return proxy.Stats().Connections > workers })
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
