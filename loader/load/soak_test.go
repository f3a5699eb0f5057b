//go:build chaos

package load_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// soakFaults is how many faults a soak injects on each server where LOADER_SOAK_FAULTS
// does not say.
const soakFaults = 100

// soakOfAllKinds is the number of faults from which on each kind must have been among them: a
// kind that is armed and never fires would be proved by nothing.
const soakOfAllKinds = 1000

// TestSoak loads one subject after the other under all mishaps at once until so many have
// happened, and reports them by kind. No row is lost, and none is there twice.
func TestSoak(t *testing.T) {
	least := soakFaults
	if text := os.Getenv("LOADER_SOAK_FAULTS"); text != "" {
		var err error
		if least, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(randomSeed(t), 2))
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		url := srv.NewDatabase(t)
		const n = 10_000
		var faults, loads int
		var rows, lost, twice, retries, lookUps int64
		kinds := map[string]int{}
		start := time.Now()
		list := subjects(srv)
		// The rest of the time is for the report.
		end, ends := t.Deadline()
		end = end.Add(-time.Minute)
		for faults < least && (!ends || time.Now().Before(end)) {
			for _, sub := range list {
				if ends && !time.Now().Before(end) {
					break
				}
				clearTables(t, url)
				sub.Chunk, sub.Workers, sub.ChunkTimeout, sub.RetryFor = 50, 4, time.Second, 2*time.Minute
				proxy := loadertest.NewProxy(t, url)
				l := sub.begin(t, proxy.URL(), url, n, sub.Settings)
				armed, names := faultsOf(rng, mishaps(srv, sub))
				proxy.Add(armed...)
				res, err := l.Run(context.Background())
				if err != nil {
					t.Fatalf("%s: %v", sub, err)
				}
				for i, f := range armed {
					kinds[names[i]] += f.Count()
					if f.Do != loadertest.Delay { // breaks nothing
						faults += f.Count()
					}
				}
				proxy.CloseAll()
				l.Close()
				proxy.Close()
				count := sub.count(t, url)
				distinct := loadertest.Value[int64](t, url, "SELECT count(DISTINCT id) FROM "+sub.table)
				rows, lost, twice = rows+count, lost+n-distinct, twice+count-distinct
				retries, lookUps, loads = retries+res.Retries, lookUps+res.LookUps, loads+1
				sub.exact(t, url, l, n)
				if t.Failed() {
					t.FailNow()
				}
			}
		}
		if faults < least {
			t.Errorf("the time was over after %d faults, want %d", faults, least)
		}
		var by []string
		for _, k := range slices.Sorted(maps.Keys(kinds)) {
			if kinds[k] == 0 && least >= soakOfAllKinds {
				t.Errorf("the fault %q never happened", k)
			}
			by = append(by, fmt.Sprintf("%s %d", k, kinds[k]))
		}
		fmt.Printf("soak on %s: %d faults in %d loads of %d rows, %.0f s: lost %d, twice %d; %d retries, %d looked up\n  %s\n",
			srv.Name, faults, loads, rows, time.Since(start).Seconds(), lost, twice, retries, lookUps, strings.Join(by, ", "))
	})
}
