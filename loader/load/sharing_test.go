package load_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// TestLoadersShareALoad runs several loaders with different chunk sizes on one load: the
// first is there from the beginning, the others come while it runs. When each of them has
// rows, all sessions are ended. Accounts find their ids taken, and draw others.
func TestLoadersShareALoad(t *testing.T) {
	numbers := []int{2}
	if loadertest.Chaos {
		numbers = []int{2, 5}
	}
	shared := func(s subject) bool { return shortOf(s) || s.kind == "accounts" && s.Method == commit.Copy }
	eachOf(t, shared, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		for _, number := range numbers {
			t.Run(fmt.Sprint(number), func(t *testing.T) {
				clearTables(t, url)
				sub.share(t, srv, url, number)
			})
		}
	})
}

func (s subject) share(t *testing.T, srv loadertest.Server, url string, number int) {
	n := int64(6000)
	s.Chunk = 50
	s.ChunkTimeout = 10 * time.Second // CockroachDB may never answer a COPY whose session is ended
	var others []*load.Load
	if s.kind == "accounts" {
		// Drawing again takes CockroachDB long, and each loader may hold three chunks.
		n, s.Chunk = int64(600*number), 20
		x := s.startDirect(t, url, n)
		x.mustEnd(t)
		others = append(others, x.Load)
	}
	// Each loader waits behind its first chunk for the others, so that none has everything.
	var arrived sync.WaitGroup
	arrived.Add(number)
	ended := make(chan struct{})
	first := make(chan struct{})
	once := make([]sync.Once, number)
	observe := func(i int) func(loader.Event) {
		return func(e loader.Event) {
			if e.Span.Rows == 0 {
				return
			}
			once[i].Do(func() {
				if i == 0 {
					close(first)
				}
				arrived.Done()
				<-ended
			})
		}
	}
	s.Observe = observe(0)
	x := s.hold(t, url, n)
	inSmallClaims(x.Load)
	x.run(t)
	select {
	case <-first:
	case <-x.done:
		t.Fatalf("the first loader has ended: %v", x.err)
	}
	rows, errs := make([]int64, number), make([]error, number)
	var running sync.WaitGroup
	for i := 1; i < number; i++ {
		set := s.Settings
		set.Chunk, set.Observe, set.RetryFor, set.Input = []int64{33, 77, 120, 250}[i-1], observe(i), time.Minute, files.NewInput(nil)
		l, err := load.Resume(context.Background(), loadertest.Open(t, url), x.ID, set)
		if err != nil {
			close(ended)
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		inSmallClaims(l)
		running.Go(func() {
			res, err := l.Run(context.Background())
			rows[i], errs[i] = res.Rows, err
			once[i].Do(arrived.Done) // without a chunk
		})
	}
	all := make(chan struct{})
	go func() { arrived.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Error("after a minute, a loader has not found a chunk of its own")
	}
	struck := srv.EndSessions(t, url)
	close(ended)
	res, err := x.wait()
	running.Wait()
	rows[0], errs[0] = res.Rows, err
	var sum int64
	for i := range number {
		if errs[i] != nil {
			t.Errorf("loader %d: %v", i+1, errs[i])
		}
		if rows[i] == 0 {
			t.Errorf("loader %d has no rows", i+1)
		}
		sum += rows[i]
	}
	t.Logf("rows by loader: %d; %d sessions were ended", rows, struck)
	if sum != n {
		t.Errorf("the loaders have %d rows in all, want %d", sum, n)
	}
	if struck < number {
		t.Errorf("%d sessions were ended, of %d loaders", struck, number)
	}
	s.exact(t, url, x.Load, n, others...)
}

// inSmallClaims has a load claim so little at once, and ahead, that five find something.
func inSmallClaims(l *load.Load) {
	q := load.QueueOf(l)
	q.MaxLease, q.MinLease = max(l.Dataset.Size().Positions/20, 1), 1
}

// TestRunThatWasTakenOverWritesNothing gives the claims of a run to another: by the
// transaction way no ledger row is its own any more, and so no row.
func TestRunThatWasTakenOverWritesNothing(t *testing.T) {
	eachOf(t, inTransactions, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Slow(t)
		}
		var once sync.Once
		var had int64
		sub.Chunk, sub.Workers = 10, 1
		sub.Observe = func(loader.Event) {
			once.Do(func() { // the one worker waits
				loadertest.Exec(t, url, "UPDATE loader.claims SET run = 'another0'")
				had = sub.count(t, url)
			})
		}
		if _, err := sub.startDirect(t, url, 30_000).wait(); !errors.Is(err, loader.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if n := sub.count(t, url); had == 0 || n != had {
			t.Errorf("%d rows are in, and %d were when the run lost its claims", n, had)
		}
	})
}

// TestForgottenMeanwhile takes the record of a load away while it runs: by hand, the whole
// of it or the load alone, and as loads forget does, which ends the run. The load says that
// it is not its own any more, and no chunk is there by half.
func TestForgottenMeanwhile(t *testing.T) {
	eachOf(t, inChunks, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Long(t)
		}
		const n = 3000
		for _, how := range []string{"record and claims", "record", "forget"} {
			t.Run(how, func(t *testing.T) {
				clearTables(t, url)
				var once sync.Once
				var had int64
				var x *trial
				entered := make(chan struct{})
				sub.Chunk, sub.RetryFor, sub.Workers = 10, 5*time.Second, 1
				sub.Observe = func(loader.Event) {
					once.Do(func() { // the one worker waits
						switch <-entered; how {
						case "record and claims":
							// Without the record first, none of the rest is claimed anew.
							loadertest.Exec(t, url, "DELETE FROM loader.loads", "DELETE FROM loader.claims")
						case "record":
							loadertest.Exec(t, url, "DELETE FROM loader.loads")
						case "forget":
							forget(t, url, x.ID)
						}
						had = sub.count(t, url)
					})
				}
				x = sub.startDirect(t, url, n)
				close(entered)
				if _, err := x.wait(); !errors.Is(err, loader.ErrLost) {
					t.Errorf("got %v, want ErrLost", err)
				}
				c := sub.count(t, url)
				if had == 0 || c%10 != 0 {
					t.Errorf("%d rows are in, and %d were before: a chunk is there by half", c, had)
				}
				// The claims are what a transaction asks for.
				if how != "record" && sub.CommitMode == commit.Transaction && c != had {
					t.Errorf("%d rows are in, and %d were when the load was forgotten", c, had)
				}
				if how == "forget" {
					left := loadertest.Value[int64](t, url, "SELECT (SELECT count(*) FROM loader.loads) + (SELECT count(*) FROM loader.claims) + (SELECT count(*) FROM loader.ledger) + (SELECT count(*) FROM loader.moved)")
					if left != 0 {
						t.Errorf("%d rows are left in the registry of a load that was forgotten", left)
					}
				}
			})
		}
	})
}

// forget does what the command loads forget does.
func forget(t testing.TB, url, id string) {
	ctx := context.Background()
	srv := loadertest.Open(t, url)
	pool, err := srv.Pool(ctx, server.Sessions{Name: "loadertest", Max: 2})
	if err != nil {
		t.Error(err)
		return
	}
	defer server.ClosePool(pool)
	reg, err := registry.Open(ctx, pool, srv.Info)
	if err == nil {
		err = reg.Forget(ctx, id)
	}
	if err != nil {
		t.Errorf("forget the load: %v", err)
	}
}
