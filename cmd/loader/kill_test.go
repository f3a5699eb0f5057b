package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// mostKills is how often one load is killed before it may end.
const mostKills = 5

// A killing counts the processes that kill -9 met alive: a load that is over before does
// not show anything.
type killing struct {
	rng         *rand.Rand
	kills, want int
	died        func() // called after each kill, if not nil
	through     string // the URL for the commands, if they have another
}

// moment draws one within a time.
func (k *killing) moment(whole time.Duration) time.Duration {
	return time.Duration(k.rng.Int64N(int64(whole)))
}

// load starts a load and kills it at a random moment within the time that a whole one
// takes, resumes it with other settings and kills that too, until one ends. It then checks
// the load.
func (k *killing) load(t *testing.T, url string, sub subject, whole time.Duration) {
	t.Helper()
	sub.fresh(t, url)
	_, before := entered(t, url, 0)
	through := cmp.Or(k.through, url)
	args := sub.command("--chunk", "50")
	for n := 0; ; n++ {
		if n == mostKills {
			runTo(t, sub.done(), command(through, args...))
			break
		}
		if !killed(t, command(through, args...), k.moment(whole), sub.done()) {
			break
		}
		if k.kills++; k.died != nil {
			k.died()
		}
		if id, _ := entered(t, url, before); id != "" { // else it was killed before
			args = sub.resume(id, "--chunk", fmt.Sprint(20+k.rng.Int64N(200)), "--workers", fmt.Sprint(1+k.rng.Int64N(4)))
		}
	}
	id, _ := entered(t, url, before)
	sub.check(t, url, id)
}

// TestKilledAtAnyMomentAndResumed kills the command at random moments, resumes its
// load with other settings, kills that too, and lets the last one end.
func TestKilledAtAnyMomentAndResumed(t *testing.T) {
	rng := newRandom(t)
	// Without -tags chaos one way on each server, and few kills.
	usual := map[string]string{
		loadertest.CockroachDB + "/points": "points by statement and insert",
		loadertest.PostgreSQL + "/csv":     "csv without a key by transaction and copy",
	}
	for _, kind := range []string{"points", "csv", "accounts", "rows"} {
		t.Run(kind, func(t *testing.T) {
			loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
				list := subjects(t, s, 2000)[kind]
				k := &killing{rng: rng, want: 50}
				if kind == "accounts" || kind == "rows" { // which differ from others in how a row is made and found
					k.want = 10
				}
				if !loadertest.Chaos {
					only := usual[s.Name+"/"+kind]
					if only == "" {
						loadertest.Long(t)
					}
					for _, sub := range list {
						if sub.String() == only {
							list = []subject{sub}
						}
					}
					k.want = 3
				}
				url := registered(t, s)
				whole := make([]time.Duration, len(list))
				for round := 0; k.kills < k.want; round++ {
					// A load may end before its moment, above all where it is short.
					if round == 4*k.want+len(list) {
						t.Fatalf("%d loads were killed %d times, want %d", round, k.kills, k.want)
					}
					i := round % len(list)
					if whole[i] == 0 {
						list[i].fresh(t, url)
						start := time.Now()
						runTo(t, list[i].done(), command(url, list[i].command("--chunk", "50")...))
						whole[i] = time.Since(start)
					}
					k.load(t, url, list[i], whole[i])
				}
				t.Logf("killed %d times", k.kills)
			})
		})
	}
}

// TestKilledWithDeferredIndexes kills a load that has dropped its indexes, and resumes or
// cancels it: every index is back.
func TestKilledWithDeferredIndexes(t *testing.T) {
	loadertest.Long(t)
	k := &killing{rng: newRandom(t), want: 6}
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	const count = "SELECT count(DISTINCT indexname) FROM pg_indexes WHERE tablename = 'points'"
	fresh := func() {
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS points",
			"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)",
			"CREATE INDEX by_x ON points (x)", "CREATE UNIQUE INDEX by_yz ON points (y, z)")
	}
	fresh()
	args := []string{"points", "--n", "20000", "--chunk", "500", "--indexes", "defer"}
	start := time.Now()
	mustRun(t, url, args...)
	whole := time.Since(start)
	for round := 0; k.kills < k.want; round++ {
		if round == 4*k.want {
			t.Fatalf("%d loads were killed %d times, want %d", round, k.kills, k.want)
		}
		fresh()
		_, before := entered(t, url, 0)
		if killed(t, command(url, args...), k.moment(whole), exitOK) {
			k.kills++
		}
		if id, _ := entered(t, url, before); id != "" {
			if round%2 == 0 || loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", id) == "done" {
				mustRun(t, url, "loads", "resume", id)
				mustRun(t, url, "loads", "verify", id)
			} else {
				mustRun(t, url, "loads", "cancel", id)
				// The last statement of a killed loader may arrive later: the load is done then.
				if loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", id) != "done" {
					runTo(t, exitRefused, command(url, "loads", "resume", id))
				}
			}
		}
		if n := loadertest.Value[int64](t, url, count); n != 3 {
			t.Fatalf("round %d: %d indexes, want 3", round, n)
		}
	}
}
