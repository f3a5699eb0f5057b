//go:build chaos

package load_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestImportOutlivesItsNodes ends a node of a cluster of three while the job of a
// load runs, and starts it again: the one that the load talks to, and another, by kill -9
// and by a stop. The load brings all of its rows, or none and then says so; the resumed
// one brings them.
func TestImportOutlivesItsNodes(t *testing.T) {
	c := loadertest.ThreeNodes(t)
	// A job waits for another node until its own is given up, 40 s else, and then up to 30
	// more until one looks for jobs, which 21.1 lets nobody change.
	loadertest.Exec(t, c.At("defaultdb", 0), "SET CLUSTER SETTING server.sqlliveness.heartbeat = '1s'", "SET CLUSTER SETTING server.sqlliveness.ttl = '6s'")
	const some, many = 600_000, 2_000_000 // a node that is stopped takes its time
	for i, x := range []struct {
		name string
		mode importer.Mode
		node int // 0 is the one that the load talks to: the first of the URL
		end  func(*loadertest.Cluster, *testing.T, int)
		rows int64
	}{
		{"gateway killed", importer.Serve, 0, (*loadertest.Cluster).Kill, some},
		{"other stopped", importer.Serve, 2, (*loadertest.Cluster).Stop, many},
		{"other killed", importer.Upload, 1, (*loadertest.Cluster).Kill, some},
	} {
		t.Run(fmt.Sprintf("%s/%s", x.mode, x.name), func(t *testing.T) {
			at := c.NewDatabase(t, fmt.Sprintf("import%d", i), 0)
			n := x.rows
			atWork := make(chan struct{}, 1)
			l := newLoad(t, at, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: load.Settings{
				Method: load.Import, ImportOptions: importer.Options{Mode: x.mode}, RetryFor: 4 * time.Minute,
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
			if x.mode == importer.Upload { // rows move before there is a job, too
				loadertest.Eventually(t, "a job", func() bool {
					return loadertest.Value[int64](t, at, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
				})
			} else {
				select {
				case <-atWork:
				case <-done:
				}
			}
			began := time.Now()
			x.end(c, t, x.node)
			select {
			case <-done:
				t.Logf("the load ended before the node did")
			default:
			}
			c.Start(t, x.node)
			<-done
			t.Logf("after the end of the node it took %s: %d rows, %v", time.Since(began).Round(time.Second), res.Rows, err)
			if err != nil {
				checkNothingLeft(t, at, "points")
				if rows := loadertest.Value[int64](t, at, "SELECT count(*) FROM points"); rows != 0 {
					// Seen once on 21.1.5: a job that cannot dial a dead node fails and is undone
					// while a third node still writes what it has read.
					var job *importer.JobError
					if !errors.As(err, &job) || job.Status != importer.Failed || job.Data {
						t.Errorf("the load failed, and %d rows are in", rows)
					}
					t.Logf("the server has not undone %d rows of the job that failed", rows)
					loadertest.Exec(t, at, "TRUNCATE points")
				}
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
