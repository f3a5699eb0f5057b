package load_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// behindTheDrops matches what a load sends next when it has dropped n indexes.
func behindTheDrops(n int) loadertest.Match {
	drops := 0
	return loadertest.Match{Func: func(m *loadertest.Message) bool {
		drop := strings.HasPrefix(m.SQL, "DROP INDEX")
		if drop && (m.Kind == loadertest.MsgExecute || m.Kind == loadertest.MsgQuery) {
			drops++
		}
		return drops >= n && !drop && (m.Kind == loadertest.MsgExecute || m.Kind == loadertest.MsgQuery)
	}}
}

// deferring is a load of 200 points that drops the indexes of its table.
func deferring() load.Request {
	return load.Request{Dataset: dataset.NewPoints(200, 0), Indexes: load.DeferIndexes, Settings: load.Settings{Workers: 1, RetryFor: time.Minute}}
}

// checkEntered fails the test unless the registry has n loads, and nothing of others.
func checkEntered(t *testing.T, url string, n int64) {
	t.Helper()
	if got := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.loads"); got != n {
		t.Errorf("the registry has %d loads, want %d", got, n)
	}
}

// TestOpeningBreaksBehindTheDrops has a load that has just dropped its indexes fail to
// begin: by a connection that breaks, so that it begins anew with another id, and for
// good. The table has all of its indexes at its end.
func TestOpeningBreaksBehindTheDrops(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		refused := &loadertest.Fault{When: behindTheDrops(len(want)), Do: loadertest.Inject, Code: "42501"}
		proxy := loadertest.NewProxy(t, url, refused)
		if l, err := load.New(context.Background(), loadertest.Open(t, proxy.URL()), deferring()); server.Code(err) != "42501" {
			t.Errorf("got %v, want 42501", err)
			if err == nil {
				l.Close()
			}
		}
		checkIndexes(t, url, want)
		checkEntered(t, url, 0)

		cut := &loadertest.Fault{When: behindTheDrops(len(want)), Do: loadertest.Cut}
		l := newLoad(t, loadertest.NewProxy(t, url, cut).URL(), deferring())
		if !cut.Fired() {
			t.Error("nothing was cut")
		}
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
		checkEntered(t, url, 1)
		checkExact(t, url, l, 200)
	})
}

// TestDropThatArrivesLate holds a DROP INDEX back until the load that sent it has looked
// which indexes are there: it must not come to drop one that was.
func TestDropThatArrivesLate(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		drop := &loadertest.Fault{When: loadertest.Match{SQL: `^DROP INDEX`, Kind: loadertest.MsgStatement}, Do: loadertest.Hold}
		// What follows the look waits, for the DROP to have its chance.
		looked := &loadertest.Fault{When: loadertest.Match{SQL: `^DELETE FROM loader.indexes`, Kind: loadertest.MsgStatement}, Do: loadertest.Delay, Delay: 200 * time.Millisecond}
		proxy := loadertest.NewProxy(t, url, drop, looked)
		var late sync.WaitGroup
		late.Go(func() {
			<-looked.Done()
			t.Logf("the late DROP INDEX is answered by %q", drop.Release())
		})
		l := newLoad(t, proxy.URL(), deferring())
		late.Wait()
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkIndexes(t, url, want)
		checkEntered(t, url, 1)
	})
}

// TestServerIsAwayBehindTheDrops has the server go away when the indexes are dropped, for
// longer than is waited: the error names what makes them again, and that does.
func TestServerIsAwayBehindTheDrops(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		want := indexed(t, url)
		away := &loadertest.Fault{When: behindTheDrops(len(want)), Do: loadertest.Refuse}
		req := deferring()
		req.RetryFor = 200 * time.Millisecond
		l, err := load.New(context.Background(), loadertest.Open(t, loadertest.NewProxy(t, url, away).URL()), req)
		if err == nil {
			l.Close()
		}
		id := loadertest.Value[string](t, url, "SELECT id FROM loader.loads")
		if !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "loader loads cancel "+id) {
			t.Errorf("got %v, want to give up, and how load %s is cancelled", err, id)
		}
		checkIndexes(t, url, nil)
		notes := cancel(t, url, id)
		if len(notes) != len(want) {
			t.Errorf("%d notes of %d indexes: %q", len(notes), len(want), notes)
		}
		checkIndexes(t, url, want)
	})
}

// cancel cancels a load as the command does, and returns its notes.
func cancel(t *testing.T, url, id string) (notes []string) {
	t.Helper()
	ctx, srv := context.Background(), loadertest.Open(t, url)
	pool, err := srv.Pool(ctx, server.Sessions{Name: "test", Max: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer server.ClosePool(pool)
	reg, err := registry.Open(ctx, pool, srv.Info)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := reg.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := load.RestoreIndexes(ctx, srv, reg, rec, func(s string) { notes = append(notes, s) }); err != nil {
		t.Error(err)
	}
	return notes
}

// TestDeferredIndexesSurviveACutAtEachMessage cuts the connection at the first message of
// a load that defers its indexes, then at the second, and so on, until a load does not meet
// the cut: each ends well, with all indexes, and leaves no other load behind. Every few
// messages are taken, of CockroachDB's fewer, whose indexes take long.
func TestDeferredIndexesSurviveACutAtEachMessage(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		step := 11
		if s.Cockroach {
			step = 131
		}
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter, loadertest.CutMiddle}
		cuts := 0
		for n := 1 + rand.IntN(step); ; n += step {
			clearTables(t, url)
			want := indexed(t, url)
			fault := &loadertest.Fault{Nth: n, Do: actions[rand.IntN(3)], Reset: rand.IntN(2) == 0}
			proxy := loadertest.NewProxy(t, url, fault)
			l, err := load.New(context.Background(), loadertest.Open(t, proxy.URL()), deferring())
			if err == nil {
				_, err = l.Run(context.Background())
				l.Close()
			}
			if err != nil {
				t.Fatalf("%v at message %d: %v", fault.Do, n, err)
			}
			checkIndexes(t, url, want)
			checkEntered(t, url, 1)
			checkExact(t, url, l, 200)
			proxy.Close()
			if t.Failed() {
				t.Fatalf("%v at message %d", fault.Do, n)
			}
			if !fault.Fired() {
				t.Logf("%d cuts; none is left at message %d", cuts, n)
				return
			}
			cuts++
		}
	})
}
