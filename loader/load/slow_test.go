package load_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestChunksThatMissTheirDeadlineAreHalved loads a table where each row takes the server
// half a millisecond, so that the planned chunk never ends in its time. It is not sent
// again at that size: the load ends, and exactly.
func TestChunksThatMissTheirDeadlineAreHalved(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		const n = 2000 // take two seconds at least
		slow := "(pg_sleep(0.001) IS NULL)"
		if s.Cockroach {
			slow = "pg_sleep(0.001)"
		}
		list := ways(s)
		if !loadertest.Chaos {
			list = usual(s)
		}
		for _, set := range list {
			t.Run(name(set), func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL, slow BOOL DEFAULT "+slow+")")
				var mu sync.Mutex
				var notes []string
				most := 0
				set.ChunkTimeout, set.Workers = 1500*time.Millisecond, 1 // the statements of opening have it too
				set.Observe = func(e loader.Event) {
					mu.Lock()
					defer mu.Unlock()
					if e.Note != "" {
						notes = append(notes, e.Note)
					}
					most = max(most, int(e.Span.Rows))
				}
				l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: set})
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
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)")
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(4000, 0), Settings: load.Settings{Workers: 1, ChunkTimeout: 300 * time.Millisecond, RetryFor: 2 * time.Second}})
		blocker(t, url, l)
		begin := time.Now()
		_, err := l.Run(context.Background())
		if took := time.Since(begin); err == nil || !strings.Contains(fmt.Sprint(err), "gave up retrying") || took > 20*time.Second {
			t.Errorf("got %v after %s, want to give up after 2 s", err, took)
		}
	})
}

// fat enters a load of a file whose record number big, from 1, has that many bytes, and
// all others 4 KiB.
func fat(t *testing.T, url string, records, big, bytes int, set load.Settings) *load.Load {
	t.Helper()
	var text strings.Builder
	for i := 1; i <= records; i++ {
		n := 4096
		if i == big {
			n = bytes
		}
		fmt.Fprintf(&text, "%d,%s\n", i, strings.Repeat("x", n))
	}
	file := t.TempDir() + "/fat.csv"
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url, "CREATE TABLE fat (id INT8 PRIMARY KEY, s TEXT)")
	return newLoad(t, url, load.Request{Table: "fat", Settings: set, Dataset: files.New(files.Request{
		Names: []string{file}, Input: files.NewInput(nil), Header: files.HeaderNo, MaxRecordBytes: 64 << 20,
	})})
}

// TestTheServerFindsChunksTooLarge lowers the size of a raft command behind the plan's
// back: the server itself says "command is too large".
func TestTheServerFindsChunksTooLarge(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	const n = 2500
	l := fat(t, url, n, 0, 0, load.Settings{Workers: 1})
	l.Dataset.Source().(*files.CSV).SpanBytes = 64 << 20 // chunks of the plan's rows, however long
	loadertest.ClusterSetting(t, url, "kv.raft.command.max_size", "4MiB")
	res, err := l.Run(context.Background())
	// From 21.2 on the server itself cuts a statement's rows into batches of 4 MiB, the lowest
	// value of the setting: no chunk is too large.
	cuts := loadertest.Open(t, url).AtLeast(21, 2, 0)
	if err != nil || res.Rows != n || (res.Halved == 0) != cuts || (res.RowsPerChunk > 1000) != cuts {
		t.Errorf("got %d rows, %d halved, chunks of %d rows at the end, %v; want %d rows, in smaller chunks: %t", res.Rows, res.Halved, res.RowsPerChunk, err, n, !cuts)
	}
	if got := loadertest.Value[int64](t, url, "SELECT count(DISTINCT id) FROM fat WHERE length(s) = 4096"); got != n {
		t.Errorf("the table has %d of the rows, want %d", got, n)
	}
}

// TestARecordLargerThanTheServerTakes names it at once: the server only closes the
// connection while it is sent.
func TestARecordLargerThanTheServerTakes(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	l := fat(t, s.NewDatabase(t), 20, 12, 17<<20, load.Settings{Workers: 1, RetryFor: 20 * time.Second})
	_, err := l.Run(context.Background())
	if !errors.Is(err, loader.ErrTooLarge) || !strings.Contains(err.Error(), "fat.csv:12: ") || !strings.Contains(err.Error(), "this row alone") {
		t.Errorf("got %v, want record 12 named", err)
	}
}
