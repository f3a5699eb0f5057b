package load_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// blocker holds a lock that the load's rows need until it is released: an uncommitted
// row with the key of one of them, or where there is no key the table.
func blocker(t testing.TB, url string, l *load.Load) (release func()) {
	t.Helper()
	if l.Dataset.Keys().Len() == 0 {
		return loadertest.Pending(t, url, "LOCK TABLE points IN SHARE MODE")
	}
	return loadertest.Pending(t, url, "INSERT INTO points (id, x, y, z) VALUES ($1, 0, 0, 0)", l.Dataset.Keys().First+250)
}

// TestTimeoutsOfTheServer has a lock held for longer than the server waits, by its
// statement timeout, which follows the load's chunk timeout, or by the lock timeout of
// the URL. The load ends with the SQLSTATE where the lock stays, and is exact where it
// goes.
func TestTimeoutsOfTheServer(t *testing.T) {
	for _, test := range []struct {
		setting, param string
		chunk          time.Duration
		code           string
	}{
		{"statement timeout", "", 1500 * time.Millisecond, "57014"},
		{"lock timeout", "lock_timeout=100ms", 30 * time.Second, "55P03"},
	} {
		t.Run(test.setting, func(t *testing.T) {
			if test.param != "" {
				loadertest.Long(t)
			}
			locked := func(s subject) bool {
				return keyed(s) && s.Method == commit.Insert || loadertest.Chaos && (keyed(s) || s.kind == "keyless" && s.Method == commit.Copy)
			}
			eachOf(t, locked, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
				if srv.Cockroach {
					loadertest.Long(t)
				}
				if srv.Cockroach && !keyed(sub) {
					loadertest.Skip(t, "CockroachDB 21.1 has no LOCK TABLE")
				}
				if srv.Cockroach && sub.Method == commit.Copy {
					loadertest.Skip(t, "CockroachDB 21.1 closes the connection of a COPY whose time is over, and says nothing")
				}
				if test.param != "" {
					if srv.Cockroach {
						loadertest.Skip(t, "CockroachDB 21.1 takes no lock_timeout but 0")
					}
					url += "&" + test.param
				}
				sub.ChunkTimeout, sub.RetryFor = test.chunk, 700*time.Millisecond
				x := sub.hold(t, url, 1000)
				release := blocker(t, url, x.Load)
				x.run(t)
				if _, err := x.wait(); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), test.code) {
					t.Errorf("got %v, want to give up with %s", err, test.code)
				}
				x.Close()

				// Again, and the lock goes while the load tries.
				sub.RetryFor = time.Minute
				proxy := loadertest.NewProxy(t, url)
				set := sub.Settings
				set.Input = files.NewInput(nil)
				again, err := load.Resume(context.Background(), loadertest.Open(t, proxy.URL()), x.ID, set)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(again.Close)
				refused := proxy.Stats().Backend[loadertest.MsgErrorResponse]
				y := &trial{Load: again, done: make(chan struct{})}
				y.run(t)
				loadertest.Eventually(t, "an attempt that the server ended", func() bool {
					return proxy.Stats().Backend[loadertest.MsgErrorResponse] > refused
				})
				release()
				if res := y.mustEnd(t); res.Retries == 0 {
					t.Error("no retry was counted")
				}
				sub.exact(t, url, y.Load, 1000)
			})
		})
	}
}

// hold enters a load, which a test runs when it has made its preparations.
func (s subject) hold(t testing.TB, url string, n int64) *trial { return s.enter(t, url, url, n) }
