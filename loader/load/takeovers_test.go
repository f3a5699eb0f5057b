//go:build chaos

package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// soakTakeovers is how many takeovers a soak makes on each server where
// LOADER_SOAK_TAKEOVERS does not say.
const soakTakeovers = 30

// LOADER_SOAK_STALE=real has the runs wait for StaleAfter as it is, instead of having the
// kit make claims look old.
func soakIsReal() bool { return os.Getenv("LOADER_SOAK_STALE") == "real" }

// marks matches the first statement of a takeover.
const marks = `^UPDATE loader\.claims SET (run|successor)`

// TestSoakOfTakeovers lets runs fall silent with a chunk under way, as a process does that
// is stopped or a machine that is cut off. Others take over from them and are killed, cut
// off or fall silent themselves, most in the middle of a takeover. Some wake meanwhile, the
// others when the load is done. No row is lost, and none is there twice.
func TestSoakOfTakeovers(t *testing.T) {
	least := soakTakeovers
	if text := os.Getenv("LOADER_SOAK_TAKEOVERS"); text != "" {
		var err error
		if least, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := randomSeed(t)
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		start := time.Now()
		end, ends := t.Deadline()
		end = end.Add(-2 * time.Minute)
		var c contest
		// Several at a time: most of the time somebody waits for a timeout.
		t.Run("lanes", func(t *testing.T) {
			for lane := range soakLanes {
				rng := rand.New(rand.NewPCG(seed, uint64(lane)))
				t.Run(fmt.Sprint(lane), func(t *testing.T) {
					t.Parallel()
					url := srv.NewDatabase(t)
					for int(c.takeovers.Load()) < least && (!ends || time.Now().Before(end)) {
						c.load(t, srv, url, rng)
						if t.Failed() {
							t.Fatalf("lane %d: %s", lane, &c)
						}
					}
				})
			}
		})
		if int(c.takeovers.Load()) < least {
			t.Errorf("the time was over after %d takeovers, want %d", c.takeovers.Load(), least)
		}
		fmt.Printf("takeovers on %s: %.0f s: %s\n", srv.Name, time.Since(start).Seconds(), &c)
	})
}

// soakLanes is how many loads a soak has at a time.
const soakLanes = 6

// load makes one load in a contest, and checks it.
func (c *contest) load(t *testing.T, srv loadertest.Server, url string, rng *rand.Rand) {
	list := subjects(srv)
	sub := list[rng.IntN(len(list))]
	if sub.bad > 0 {
		return // its file is read, which others do too
	}
	clearTables(t, url)
	const n = 1500
	x := c.round(t, url, sub, n, rng)
	count := sub.count(t, url)
	distinct := loadertest.Value[int64](t, url, "SELECT count(DISTINCT id) FROM "+sub.table)
	c.rows.Add(count)
	c.lost.Add(n - distinct)
	c.twice.Add(count - distinct)
	c.loads.Add(1)
	sub.exact(t, url, x, n)
	if t.Failed() {
		t.Log(sub)
	}
}

// A contest counts what happened.
type contest struct {
	takeovers, loads, rows, lost, twice atomic.Int64

	silent atomic.Int64 // runs that fell silent
	woken  atomic.Int64 // of these, before the load was done
	killed atomic.Int64
	freed  atomic.Int64 // times that the silent ones were in the way
	within atomic.Int64 // that fell silent or were killed within a takeover
}

func (c *contest) String() string {
	return fmt.Sprintf("%d takeovers in %d loads of %d rows: lost %d, twice %d; %d runs fell silent, %d of them woke before the end, %d were killed; %d within a takeover; %d times the silent ones were in the way",
		c.takeovers.Load(), c.loads.Load(), c.rows.Load(), c.lost.Load(), c.twice.Load(), c.silent.Load(), c.woken.Load(), c.killed.Load(), c.within.Load(), c.freed.Load())
}

// A rival is one run of a load.
type rival struct {
	*load.Load
	proxy  *loadertest.Proxy
	marks  *loadertest.Fault // counts takeovers
	claims *loadertest.Fault // counts claims
	kill   context.CancelFunc
	done   chan struct{}
	err    error
	silent bool
}

// compete runs a load beside the test.
func compete(t *testing.T, l *load.Load, proxy *loadertest.Proxy, faults ...*loadertest.Fault) *rival {
	ctx, kill := context.WithCancel(context.Background())
	r := &rival{Load: l, proxy: proxy, kill: kill, done: make(chan struct{})}
	count := func(sql string) *loadertest.Fault {
		return &loadertest.Fault{When: loadertest.Match{SQL: sql, Kind: loadertest.MsgStatement}, Times: -1, Do: loadertest.Delay}
	}
	r.marks, r.claims = count(marks), count(`^INSERT INTO loader\.claims`)
	proxy.Add(r.marks, r.claims)
	proxy.Add(faults...)
	go func() {
		defer close(r.done)
		_, r.err = r.Run(ctx)
	}()
	t.Cleanup(r.end)
	return r
}

// end kills a run: its process and its connections are gone at once.
func (r *rival) end() {
	r.kill()
	r.proxy.CloseAll()
	r.proxy.Heal()
	<-r.done
	r.proxy.CloseAll()
	r.Close()
	r.proxy.Close()
}

// round loads a subject once, in a contest of several runs, and returns the last of them.
func (c *contest) round(t *testing.T, url string, sub subject, n int64, rng *rand.Rand) *load.Load {
	t.Helper()
	set := sub.Settings
	set.Chunk, set.Workers, set.RetryFor, set.ChunkTimeout = 20+rng.Int64N(100), 1+rng.IntN(3), 3*time.Second, 8*time.Second
	proxy := loadertest.NewProxy(t, url)
	fault := &loadertest.Fault{When: ofChunks(rng.IntN(10) == 0), Nth: 1 + rng.IntN(12), Do: loadertest.BlackHoleAll}
	rivals := []*rival{compete(t, sub.begin(t, proxy.URL(), url, n, set), proxy, fault)}
	c.await(rivals[0], fault, loadertest.BlackHoleAll)

	set.ChunkTimeout, set.StaleAfter = 2*time.Second, 2*time.Second
	if soakIsReal() {
		set.StaleAfter, set.RetryFor = 0, 2*time.Minute
	}
	for range 1 + rng.IntN(5) {
		set.Chunk, set.Workers = 20+rng.Int64N(100), 1+rng.IntN(2)
		do := []loadertest.Action{loadertest.BlackHoleAll, loadertest.Cut, loadertest.CutAfter, loadertest.SwallowReply}[rng.IntN(4)]
		fault := &loadertest.Fault{When: behindMark(rng.IntN(4) > 0), Nth: 1 + rng.IntN(24), Do: do}
		if do != loadertest.Cut && do != loadertest.CutAfter {
			// A statement that arrives by half would keep its session, and the locks of it,
			// for hours on PostgreSQL.
			fault.When.Kind = loadertest.MsgStatement
			fault.Nth = 1 + fault.Nth/4
		}
		r, err := c.resume(t, url, rivals[0].ID, set, fault)
		if err != nil {
			t.Fatal(err)
		}
		rivals = append(rivals, r)
		stopAging := age(t, url, r)
		if !c.await(r, fault, do) && r.err == nil {
			stopAging()
			break // the load is done
		}
		stopAging()
		c.free(r, rivals)
		if rng.IntN(3) == 0 {
			c.wake(rivals, rng)
		}
	}
	if rng.IntN(3) == 0 {
		c.wake(rivals, rng)
	}
	// The last one is disturbed no more, but by those that wake.
	for attempt := 1; ; attempt++ {
		r, err := c.resume(t, url, rivals[0].ID, set)
		if err != nil {
			t.Fatal(err)
		}
		rivals = append(rivals, r)
		stopAging := age(t, url, r)
		<-r.done
		stopAging()
		if r.err == nil {
			break
		}
		c.free(r, rivals)
		// One that woke may have taken over from it, as the kit says that it is stale.
		if attempt == 10 || !errors.Is(r.err, loader.ErrLost) && !errors.Is(r.err, loader.ErrGaveUp) {
			t.Fatalf("the last run of %s: %v", sub, r.err)
		}
	}
	for _, r := range rivals {
		r.proxy.Heal() // all wake: what they have sent arrives
	}
	for _, r := range rivals {
		c.takeovers.Add(int64(r.marks.Count()))
		select {
		case <-r.done:
		case <-time.After(time.Minute):
			t.Errorf("a run that woke behind the end of its load has not ended in a minute")
		}
		r.end()
	}
	return rivals[len(rivals)-1].Load
}

// resume opens the load again and runs it with a fault.
func (c *contest) resume(t *testing.T, url, id string, set load.Settings, faults ...*loadertest.Fault) (*rival, error) {
	t.Helper()
	proxy := loadertest.NewProxy(t, url)
	set.Input = files.NewInput(nil)
	l, err := load.Resume(context.Background(), loadertest.Open(t, proxy.URL()), id, set)
	if err != nil {
		return nil, err
	}
	return compete(t, l, proxy, faults...), nil
}

// await waits until a run has met its fault, and kills it there or leaves it silent; false:
// it ended by itself.
func (c *contest) await(r *rival, fault *loadertest.Fault, do loadertest.Action) bool {
	select {
	case <-fault.Done():
	case <-r.done:
		return false
	}
	if r.marks.Fired() && !r.claims.Fired() {
		c.within.Add(1)
	}
	if do == loadertest.BlackHoleAll {
		r.silent = true
		c.silent.Add(1)
		return true
	}
	c.killed.Add(1)
	r.kill()
	r.proxy.CloseAll()
	<-r.done
	return true
}

// free ends the connections of the silent runs, as a keepalive does in the end, if a run gave
// up waiting for what they have locked: the time for retries is short here.
func (c *contest) free(r *rival, rivals []*rival) {
	select {
	case <-r.done:
	default:
		return
	}
	if errors.Is(r.err, loader.ErrGaveUp) {
		c.freed.Add(1)
		for _, x := range rivals {
			x.proxy.CloseAll()
		}
	}
}

// wake lets one of the silent runs go on.
func (c *contest) wake(rivals []*rival, rng *rand.Rand) {
	r := rivals[rng.IntN(len(rivals))]
	if r.silent {
		r.silent = false
		c.woken.Add(1)
		r.proxy.Heal()
	}
}

// age makes the claims of all other runs look stale while a run goes on: StaleAfter is over
// at once.
func age(t *testing.T, url string, r *rival) (stop func()) {
	if soakIsReal() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	conn, err := pgx.Connect(ctx, withName(t, url))
	if err != nil {
		t.Fatal(err)
	}
	update := fmt.Sprintf("UPDATE loader.claims SET beat = now() - INTERVAL '%d seconds' WHERE load = '%s' AND run <> '%s' AND beat > now() - INTERVAL '%d seconds'",
		2*registry.StaleAfter/time.Second, r.ID, load.RunOf(r.Load), registry.StaleAfter/time.Second)
	go func() {
		defer close(done)
		defer conn.Close(context.Background())
		for ctx.Err() == nil {
			// It fails where a claim is locked, and is made again.
			conn.Exec(ctx, "SET statement_timeout = '1s'; "+update, pgx.QueryExecModeSimpleProtocol)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() { cancel(); <-done }
}

var (
	ledgerText = regexp.MustCompile(`(?is)^(BEGIN; )?INSERT INTO loader\.ledger`)
	marksText  = regexp.MustCompile(`(?is)` + marks)
)

// ofChunks matches the statements of chunks, and the ends of their transactions. It spares a
// run that has the load locked, unless it is hard: the others would wait for its timeout.
func ofChunks(hard bool) loadertest.Match {
	open, locked := map[int]bool{}, map[int]bool{} // connections whose transaction has rows, or the lock
	return loadertest.Match{Kind: loadertest.MsgStatement, Func: func(m *loadertest.Message) bool {
		chunk := rowsText.MatchString(m.SQL) || ledgerText.MatchString(m.SQL)
		switch {
		case chunk:
			open[m.Conn] = true
		case strings.Contains(m.SQL, "FOR UPDATE"):
			locked[m.Conn] = true
		case endText.MatchString(m.SQL):
			chunk = open[m.Conn]
			delete(open, m.Conn)
			delete(locked, m.Conn)
		}
		return chunk && (hard || len(locked) == 0)
	}}
}

// behindMark matches every message, or those from the first statement of a takeover on.
func behindMark(only bool) loadertest.Match {
	begun := !only
	return loadertest.Match{Func: func(m *loadertest.Message) bool {
		begun = begun || marksText.MatchString(m.SQL)
		return begun
	}}
}
