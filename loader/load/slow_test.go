package load_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestChunksThatMissTheirDeadlineAreHalved loads a table where each row takes the server
// half a millisecond, so that the planned chunk never ends in its time. It is not sent
// again at that size: the load ends, and exactly.
func TestChunksThatMissTheirDeadlineAreHalved(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		slow := "(pg_sleep(0.0005) IS NULL)"
		if s.Cockroach {
			slow = "pg_sleep(0.0005)"
		}
		for _, set := range ways(s) {
			t.Run(name(set), func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL, slow BOOL DEFAULT "+slow+")")
				const n = 2000
				var mu sync.Mutex
				var notes []string
				most := 0
				set.ChunkTimeout, set.Workers = 500*time.Millisecond, 1
				set.Observe = func(e loader.Event) {
					mu.Lock()
					defer mu.Unlock()
					if e.Note != "" {
						notes = append(notes, e.Note)
					}
					most = max(most, int(e.Span.Rows))
				}
				l := newLoad(t, url, load.Request{What: load.Points, Rows: n, Settings: set})
				res, err := l.Run(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if res.Halved == 0 || res.Retries != res.Halved || most >= n || len(notes) == 0 || !strings.Contains(notes[0], "took too long") {
					t.Errorf("got %d halved, %d retries, chunks up to %d rows and notes %q", res.Halved, res.Retries, most, notes)
				}
				checkExact(t, url, l, n)
			})
		}
	})
}

// TestATableThatIsLockedIsNotHalvedForEver has no row go in: the load gives up in the
// time that it has for retries, however many sizes it tries.
func TestATableThatIsLockedIsNotHalvedForEver(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)")
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 4000, Settings: load.Settings{Workers: 1, ChunkTimeout: 300 * time.Millisecond, RetryFor: 2 * time.Second}})
		blocker(t, url, l)
		begin := time.Now()
		_, err := l.Run(context.Background())
		if took := time.Since(begin); err == nil || !strings.Contains(fmt.Sprint(err), "gave up retrying") || took > 20*time.Second {
			t.Errorf("got %v after %s, want to give up after 2 s", err, took)
		}
	})
}
