package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// TestSessionsAreEndedAllTheTime ends every session of the loader again and again.
func TestSessionsAreEndedAllTheTime(t *testing.T) {
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Slow(t)
			// CockroachDB may never answer a COPY that arrives while its session is ended.
			sub.ChunkTimeout = 10 * time.Second
		}
		storms := 4
		if loadertest.Chaos {
			storms = 40
		}
		n := int64(20_000)
		sub.Chunk = 50
		x := sub.startDirect(t, url, n)
		struck := 0
		for x.running() && struck < storms {
			// Between two storms something must be committed.
			was := sub.count(t, url)
			srv.EndSessions(t, url)
			struck++
			loadertest.Eventually(t, "more rows", func() bool {
				return !x.running() || sub.count(t, url) > was
			})
		}
		res := x.mustEnd(t)
		if res.Retries == 0 {
			t.Errorf("no chunk was sent again in %d storms", struck)
		}
		t.Logf("%d storms, %d retries, %d look-ups", struck, res.Retries, res.LookUps)
		sub.exact(t, url, x.Load, n)
	})
}

// withName returns the URL with the kit's application_name, which the check for left
// sessions passes by.
func withName(t testing.TB, url string) string {
	t.Helper()
	if strings.Contains(url, "?") {
		return url + "&application_name=loadertest"
	}
	return url + "?application_name=loadertest"
}

// TestServerThatStarts has the server end every connection and answer 57P03 to new
// ones, as it does while it starts, and 53300 after that, as one does to which all
// clients come back at once.
func TestServerThatStarts(t *testing.T) {
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Slow(t)
		}
		if srv.Cockroach && !shortOf(sub) {
			loadertest.Long(t)
		}
		x := sub.start(t, url, 3000,
			&loadertest.Fault{When: sub.commitsOfChunks(srv), Nth: 3, Times: 2, Do: loadertest.InjectAfter, Code: "57P01"},
			&loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStartup}, Times: 5, Do: loadertest.Inject, Code: "57P03"},
			&loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStartup}, Times: 5, Do: loadertest.Inject, Code: "53300"})
		res := x.mustEnd(t)
		if res.LookUps == 0 {
			t.Error("a session that ended behind COMMIT left no doubt")
		}
		sub.exact(t, url, x.Load, 3000)
	})
}

// TestServerThatNeverStarts is its control: it ends with the SQLSTATE, and resumes.
func TestServerThatNeverStarts(t *testing.T) {
	loadertest.Long(t)
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.RetryFor = 2 * time.Second // longer than the first session takes to end on a busy machine
		x := sub.start(t, url, 3000,
			&loadertest.Fault{When: sub.commits(srv), Nth: 3, Times: -1, Do: loadertest.InjectAfter, Code: "57P01"},
			&loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStartup}, Times: -1, Do: loadertest.Inject, Code: "57P03"})
		if _, err := x.wait(); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "57P03") {
			t.Errorf("got %v, want to give up with 57P03", err)
		}
		x.proxy.Heal()
		x.Close() // as its process would: a run that has sessions is left alone
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, 3000)
	})
}

// TestServerIsStoppedAndStarted stops the server the way an administrator does, fast on
// PostgreSQL and drained on CockroachDB, and crashes it, in the middle of loads.
func TestServerIsStoppedAndStarted(t *testing.T) {
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			if p == server.CockroachDB {
				loadertest.Slow(t)
			}
			srv, db := loadertest.OwnServer(t, p)
			ends := []struct {
				name string
				end  func() error
			}{
				{"stop", func() error { return db.Halt(context.Background()) }},
				{"crash", db.Crash},
			}
			list := subjects(srv)
			if !loadertest.Chaos {
				list = slices.DeleteFunc(few(list), func(s subject) bool { return !shortOf(s) })
				if p == server.CockroachDB {
					ends = ends[1:]
				}
			}
			for _, sub := range list {
				for _, how := range ends {
					if how.name == "stop" && !sub.among(srv) {
						continue // a crash is the harder end
					}
					t.Run(sub.String()+"/"+how.name, func(t *testing.T) { stopAndStart(t, srv, db, sub, how.end) })
				}
			}
		})
	}
}

func stopAndStart(t *testing.T, srv loadertest.Server, db *localdb.DB, sub subject, end func() error) {
	url := srv.NewDatabase(t)
	some := make(chan struct{}, 1)
	sub.Observe = func(loader.Event) {
		select {
		case some <- struct{}{}:
		default:
		}
	}
	const n = 30_000
	x := sub.startDirect(t, url, n)
	rounds := 1
	if loadertest.Chaos && sub.among(srv) {
		rounds = 3
	}
	struck := 0
	for range rounds {
		select {
		case <-some:
		case <-x.done:
			continue
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := db.Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
		struck++
	}
	res := x.mustEnd(t)
	if struck == 0 {
		t.Error("the load was over before the server was stopped")
	}
	t.Logf("stopped %d times: %d retries, %d look-ups", struck, res.Retries, res.LookUps)
	sub.exact(t, url, x.Load, n)
}
