//go:build chaos

package load_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/handoff"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestImportOutlivesItsNodes ends a node of a cluster of three while the job of a
// load runs, and starts it again: the one that the load talks to, and another, by kill -9
// and by a stop. The load brings all of its rows, or none and then says so; the resumed
// one brings them.
func TestImportOutlivesItsNodes(t *testing.T) {
	c := threeNodes(t)
	const some, many = 600_000, 2_000_000 // a node that is stopped takes its time
	for i, x := range []struct {
		name string
		mode handoff.Mode
		node int // 0 is the one that the load talks to: the first of the URL
		end  func(*cluster, *testing.T, int)
		rows int64
	}{
		{"gateway killed", handoff.Serve, 0, (*cluster).kill, some},
		{"other killed", handoff.Serve, 1, (*cluster).kill, some},
		{"gateway stopped", handoff.Serve, 0, (*cluster).stop, many},
		{"other stopped", handoff.Serve, 2, (*cluster).stop, many},
		{"gateway killed", handoff.Upload, 0, (*cluster).kill, some},
		{"other killed", handoff.Upload, 2, (*cluster).kill, some},
	} {
		t.Run(fmt.Sprintf("%s/%s", x.mode, x.name), func(t *testing.T) {
			name := fmt.Sprintf("import%d", i)
			loadertest.Exec(t, c.at("defaultdb"), "CREATE DATABASE "+name)
			at := c.at(name)
			n := x.rows
			atWork := make(chan struct{}, 1)
			l := newLoad(t, at, load.Request{What: load.Points, Rows: n, Settings: load.Settings{
				Via: load.Import, Handoff: handoff.Options{Mode: x.mode}, RetryFor: 4 * time.Minute,
				Note: func(s string) { t.Log(s) },
				Observe: func(e loader.Event) {
					if e.Span.Count > 0 {
						select {
						case atWork <- struct{}{}:
						default:
						}
					}
				},
			}})
			done := make(chan struct{})
			var res loader.Result
			var err error
			go func() {
				defer close(done)
				res, err = l.Run(context.Background())
			}()
			defer func() { <-done }()
			if x.mode == handoff.Upload { // rows move before there is a job, too
				loadertest.Eventually(t, "a job", func() bool {
					return loadertest.Value[int64](t, at, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
				})
			} else {
				<-orDone(atWork, done)
			}
			began := time.Now()
			x.end(c, t, x.node)
			select {
			case <-done:
				t.Logf("the load ended before the node did")
			default:
			}
			c.start(t, x.node)
			<-done
			t.Logf("after the end of the node it took %s: %d rows, %v", time.Since(began).Round(time.Second), res.Rows, err)
			if err != nil {
				if rows := loadertest.Value[int64](t, at, "SELECT count(*) FROM points"); rows != 0 {
					t.Errorf("the load failed, and %d rows are in", rows)
				}
				checkNothingLeft(t, at, "points")
				again, err := load.Resume(context.Background(), loadertest.Open(t, at), l.ID, load.Settings{RetryFor: 4 * time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				if _, err := again.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			checkExact(t, at, l, n)
			checkNothingLeft(t, at, "points")
		})
	}
}

// stop ends a node as its operator does.
func (c *cluster) stop(t *testing.T, node int) {
	t.Helper()
	if err := c.StopNode(node); err != nil {
		t.Fatal(err)
	}
}
