package load_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// randomSeed draws the seed of a test, or takes that of LOADER_TEST_SEED, and prints it.
func randomSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("LOADER_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOADER_TEST_SEED=%d repeats this", seed)
	return seed
}

// A mishap is a fault that may happen to a load, and how often: the probability at each
// message that it may meet.
type mishap struct {
	name string
	p    float64
	loadertest.Match
	do   loadertest.Action
	code string
	rst  bool
	text string // of Precede
}

// ledgerRows matches the ledger rows of chunks.
var ledgerRows = loadertest.Match{SQL: `^INSERT INTO loader\.ledger`, Kind: loadertest.MsgBind}

// injectRetry has CockroachDB answer three statements of a transaction, from the next one on, by
// retry errors. 21.1 does not have the setting.
const injectRetry = "SET LOCAL inject_retry_errors_enabled = on"

// mishaps are the faults that a load must survive. Those at a chunk's commit leave its
// outcome uncertain, or do not.
func mishaps(srv loadertest.Server, sub subject) []mishap {
	at := sub.commits(srv)
	rows := loadertest.Match{SQL: rowsOf}
	start := loadertest.Match{Kind: loadertest.MsgStartup}
	reply := loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete}
	list := []mishap{
		{name: "reset before commit", p: 0.04, Match: at, do: loadertest.Cut, rst: true},
		{name: "cut behind commit", p: 0.04, Match: at, do: loadertest.CutAfter},
		{name: "reply of commit lost", p: 0.06, Match: at, do: loadertest.SwallowReply},
		{name: "40001 at commit", p: 0.06, Match: at, do: loadertest.Inject, code: "40001"},
		{name: "40003 after commit", p: 0.04, Match: at, do: loadertest.InjectAfter, code: "40003"},
		{name: "57P01 after commit", p: 0.03, Match: at, do: loadertest.InjectAfter, code: "57P01"},
		{name: "cut in the rows", p: 0.01, Match: rows, do: loadertest.CutMiddle, rst: true},
		{name: "cut in a reply", p: 0.01, Match: reply, do: loadertest.CutMiddle},
		{name: "57P03 at connect", p: 0.05, Match: start, do: loadertest.Inject, code: "57P03"},
		{name: "53300 at connect", p: 0.05, Match: start, do: loadertest.Inject, code: "53300"},
		{name: "silence at commit", p: 0.004, Match: at, do: loadertest.BlackHole},
		{name: "delay", p: 0.03, Match: rows, do: loadertest.Delay},
	}
	if srv.Cockroach && sub.CommitMode == commit.Transaction && !strings.Contains(srv.Version, " v21.1.") {
		list = append(list, mishap{name: "retry error of the server's own", p: 0.04, Match: ledgerRows, do: loadertest.Precede, text: injectRetry})
	}
	return list
}

// faults returns the mishaps as faults of a proxy. What is counted by name is in the
// second result.
func faultsOf(rng *rand.Rand, list []mishap) (faults []*loadertest.Fault, names []string) {
	for _, m := range list {
		faults = append(faults, &loadertest.Fault{
			When: m.Match, P: m.p, Seed: rng.Uint64(), Do: m.do, Code: m.code, Text: m.text, Reset: m.rst, Delay: 20 * time.Millisecond,
		})
		names = append(names, m.name)
	}
	return faults, names
}

// checksumOf returns a checksum of what a load's rows hold, which depends on the seed or the
// file alone: of points without their keys, which are drawn for each load.
func checksumOf(t testing.TB, url string, sub subject) string {
	t.Helper()
	query := "SELECT x, y, z FROM points"
	switch sub.kind {
	case "accounts":
		query = "SELECT id, balance FROM accounts"
	case "keyless", "file", "rejects":
		query = "SELECT id, s FROM points"
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, withName(t, url))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	found, err := conn.Query(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	// In Go's words: the servers write numbers in different ways.
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return fmt.Sprintf("%q", fmt.Sprint(values...)), err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return fmt.Sprintf("%d rows, %x", len(list), sha256.Sum256([]byte(strings.Join(list, "\n"))))[:40]
}

// TestTheSameRowsWhateverHappens loads the same rows with chunks, workers, methods, modes
// and faults that are drawn, stopped and resumed or not, on both servers: the table has
// the same checksum every time.
func TestTheSameRowsWhateverHappens(t *testing.T) {
	const n = 3000
	rng := rand.New(rand.NewPCG(randomSeed(t), 1))
	rounds := 3
	if loadertest.Chaos {
		rounds = 16
	}
	want := map[string]string{}
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		if srv.Cockroach {
			loadertest.Slow(t)
		}
		url := srv.NewDatabase(t)
		list := subjects(srv)
		if !loadertest.Chaos {
			list = few(list)
		}
		for round := range rounds {
			sub := list[round%len(list)]
			if rounds > len(list) {
				sub = list[rng.IntN(len(list))]
			}
			sub.Chunk, sub.Workers = 20+rng.Int64N(600), 1+rng.IntN(4)
			sub.ChunkTimeout = 2 * time.Second
			var some []mishap
			for _, m := range mishaps(srv, sub) {
				if rng.IntN(2) == 0 {
					some = append(some, m)
				}
			}
			stopAt := rng.IntN(30) // the load stops after that many chunks; beyond them it ends
			clearTables(t, url)
			proxy := loadertest.NewProxy(t, url)
			stop, seen := make(chan struct{}), 0
			sub.Stop = stop
			sub.Observe = func(e loader.Event) {
				if seen++; seen == stopAt {
					close(stop)
				}
			}
			sub.RetryFor = time.Minute
			l := sub.begin(t, proxy.URL(), url, n, sub.Settings)
			faults, _ := faultsOf(rng, some)
			proxy.Add(faults...)
			_, err := l.Run(context.Background())
			happened := proxy.Stats().Injected()
			proxy.CloseAll()
			l.Close()
			proxy.Close()
			what := fmt.Sprintf("round %d: %s, chunks of %d, %d workers, %d of %d faults, stopped after %d", round, sub, sub.Chunk, sub.Workers, happened, len(faults), stopAt)
			if err != nil {
				if !errors.Is(err, loader.ErrStopped) || stopAt > seen {
					t.Fatalf("%s: %v", what, err)
				}
				resume(t, url, l, sub.Settings)
			}
			got := checksumOf(t, url, sub)
			if want[sub.kind] == "" {
				want[sub.kind] = got
			}
			if got != want[sub.kind] {
				t.Fatalf("%s: %s, want %s", what, got, want[sub.kind])
			}
			sub.exact(t, url, l, n)
			if t.Failed() {
				t.Fatal(what)
			}
		}
	})
	t.Logf("checksums: %v", want)
}
