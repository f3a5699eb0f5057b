package server_test

import (
	"context"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestFirstSessionIsDialledAhead counts connections: Open dials one ahead, the first session of a
// pool takes it, and later pools dial theirs. TestMain finds the ones that nobody takes.
func TestFirstSessionIsDialledAhead(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		ctx := context.Background()
		p := loadertest.NewProxy(t, s.URL())
		defer p.Close()
		c, err := server.Parse(p.URL())
		if err != nil {
			t.Fatal(err)
		}
		srv, err := server.Open(ctx, c, "")
		if err != nil {
			t.Fatal(err)
		}
		loadertest.Eventually(t, "a second connection is dialled", func() bool { return p.Stats().Connections == 2 })
		for _, want := range []int{2, 3} {
			pool, err := srv.Pool(ctx, server.Sessions{Name: "spare"})
			if err != nil {
				t.Fatal(err)
			}
			if err := pool.Ping(ctx); err != nil {
				t.Error(err)
			}
			server.ClosePool(pool)
			if n := p.Stats().Connections; n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		}
	})
}

// TestRoundTripOfASlowServer has a server that answers each query slowly, over no network: a
// session that a pool opens in the background finds out.
func TestRoundTripOfASlowServer(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		p := loadertest.NewProxy(t, s.URL())
		p.Add(&loadertest.Fault{When: loadertest.Match{SQL: "SELECT", Kind: loadertest.MsgStatement}, Times: -1, Do: loadertest.Delay, Delay: 200 * time.Millisecond})
		srv := loadertest.Open(t, p.URL())
		if d := srv.RoundTrip(); d < 200*time.Millisecond {
			t.Fatalf("the first queries took %v, want them delayed", d)
		}
		pool, err := srv.Pool(t.Context(), server.Sessions{Name: "slow", Ready: 1, Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer server.ClosePool(pool)
		loadertest.Eventually(t, "a round trip without a query", func() bool { return srv.RoundTrip() < 200*time.Millisecond })
	})
}
