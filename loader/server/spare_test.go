package server_test

import (
	"context"
	"testing"

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
