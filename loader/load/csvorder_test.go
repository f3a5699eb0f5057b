package load_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestRateBoundsTheRows has a load take as long as its rate asks for, at least.
func TestRateBoundsTheRows(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		const n, rate = 500, 1000
		text, _ := dirty(n)
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
		req := fileRequest("t", write(t, "x.csv", text))
		req.Chunk, req.Workers, req.Rate = 50, 2, rate
		res, err := newLoad(t, url, req).Run(context.Background())
		if err != nil || res.Rows != n {
			t.Fatalf("%d rows, %v", res.Rows, err)
		}
		if least := n * time.Second / rate; res.Elapsed < least*9/10 {
			t.Errorf("%d rows took %s; at %d rows a second it is %s", n, res.Elapsed, rate, least)
		}
	})
}

// TestOrderOfTheFile holds that workers take neighbouring chunks where the file's order
// is asked for, and on CockroachDB chunks that lie apart where it is not.
func TestOrderOfTheFile(t *testing.T) {
	s := loadertest.CockroachServer(t)
	const chunk, width = 50, 4000
	path := write(t, "x.csv", strings.Repeat("1,"+strings.Repeat("x", width-3)+"\n", 12<<20/width))
	for _, inOrder := range []bool{false, true} {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8, s TEXT)")
		req := fileRequest("t", path)
		req.Chunk, req.Workers, req.InOrder, req.Method = chunk, 2, inOrder, commit.Insert
		// How far the chunks that come in are ahead of the first that is not in.
		var far, next int64
		ends := map[int64]int64{}
		req.Observe = func(e loader.Event) {
			if e.Span.Count == 0 {
				return
			}
			far = max(far, e.Span.First-next)
			for ends[e.Span.First] = e.Span.End(); ends[next] > 0; next = ends[next] {
			}
		}
		srv := loadertest.Open(t, url)
		untilNear(t, srv)
		l, err := load.New(context.Background(), srv, req)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		// A worker that waits for the machine falls some chunks behind the other. Chunks that lie
		// apart begin many chunks ahead.
		ahead := fmt.Sprintf("chunks were up to %.1f chunks ahead", float64(far)/(chunk*width))
		if inOrder && far > 10*chunk*width {
			t.Errorf("in the file's order %s", ahead)
		}
		t.Logf("in order %t: %s", inOrder, ahead)
		if !inOrder && far < 10*chunk*width {
			t.Errorf("in no order %s", ahead)
		}
	}
}

// untilNear waits until a server has answered so fast that a load does not take it for a far one,
// for which it announces few chunks at a time. A busy machine is slow at first.
func untilNear(t *testing.T, srv *server.Server) {
	t.Helper()
	const near = 5 * time.Millisecond
	for deadline := time.Now().Add(30 * time.Second); srv.RoundTrip() > near; {
		if time.Now().After(deadline) {
			t.Fatalf("no answer in %s: the shortest took %s", near, srv.RoundTrip())
		}
		pool, err := srv.Pool(t.Context(), server.Sessions{Name: "near", Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		err = pool.Ping(t.Context()) // a new session notes how long its questions take
		server.ClosePool(pool)
		if err != nil {
			t.Fatal(err)
		}
	}
}
