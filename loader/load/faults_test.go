package load_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// commitOf matches the message with which a chunk of a way becomes durable.
func commitOf(s loadertest.Server, set load.Settings) loadertest.Match {
	switch {
	case set.Way == commit.Statement && set.Via == commit.Copy:
		return loadertest.Match{SQL: `^COPY .*(points|accounts)`, Kind: loadertest.MsgStatement}
	case set.Way == commit.Statement:
		return loadertest.Match{SQL: `^INSERT INTO .*(points|accounts)`, Kind: loadertest.MsgStatement}
	case s.Product == server.CockroachDB:
		return loadertest.Match{SQL: `^RELEASE SAVEPOINT cockroach_restart`, Kind: loadertest.MsgStatement}
	}
	return loadertest.Match{SQL: `^COMMIT`, Kind: loadertest.MsgStatement}
}

// run loads n points through a proxy with the given faults, armed once the load is
// entered in the registry.
func run(t *testing.T, url string, n int64, set load.Settings, faults ...*loadertest.Fault) (*load.Load, loader.Result, error) {
	t.Helper()
	proxy := loadertest.NewProxy(t, url)
	if set.Chunk == 0 {
		set.Chunk = 200
	}
	if set.RetryFor == 0 {
		set.RetryFor = 20 * time.Second
	}
	l := newLoad(t, proxy.URL(), load.Request{What: load.Points, Rows: n, Seed: 11, Settings: set})
	proxy.Add(faults...)
	res, err := l.Run(context.Background())
	return l, res, err
}

func eachWay(t *testing.T, f func(t *testing.T, s loadertest.Server, url string, set load.Settings)) {
	t.Helper()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for _, set := range ways(s) {
			t.Run(name(set), func(t *testing.T) { f(t, s, s.NewDatabase(t), set) })
		}
	})
}

func TestSwallowedReplies(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		fault := &loadertest.Fault{When: commitOf(s, set), Nth: 2, Times: 3, Do: loadertest.SwallowReply}
		l, res, err := run(t, url, 2000, set, fault)
		if err != nil {
			t.Fatal(err)
		}
		if !fault.Fired() || res.LookUps == 0 {
			t.Fatalf("fault fired %d times, %d look-ups", fault.Count(), res.LookUps)
		}
		checkExact(t, url, l, 2000)
	})
}

// TestSwallowedRepliesWithoutProof is the control of TestSwallowedReplies: with
// ledger and look-up off, the same fault must be seen.
func TestSwallowedRepliesWithoutProof(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		set.Unproven = true
		fault := &loadertest.Fault{When: commitOf(s, set), Nth: 2, Times: 3, Do: loadertest.SwallowReply}
		_, _, err := run(t, url, 2000, set, fault)
		var dup *commit.DuplicateError
		if !errors.As(err, &dup) {
			t.Errorf("got %v, want the duplicate that nothing explains without look-up and ledger", err)
		}
	})
}

// TestStatementThatArrivesLate holds a chunk back until everything is over.
func TestStatementThatArrivesLate(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		if set.Via == commit.Copy && set.Way == commit.Statement {
			t.Skip("the rows of a COPY follow its statement, so none is held back")
		}
		if set.Way == commit.Transaction {
			// The commit is held, and with it the transaction's locks, until
			// the statement's time on the server is over.
			set.ChunkTimeout = 2 * time.Second
		}
		fault := &loadertest.Fault{When: commitOf(s, set), Nth: 3, Do: loadertest.Hold}
		l, _, err := run(t, url, 2000, set, fault)
		if err != nil {
			t.Fatal(err)
		}
		replies := fault.Release()
		t.Logf("the late statement was answered by %q", replies)
		if len(replies) == 0 {
			t.Fatal("nothing was held back")
		}
		checkExact(t, url, l, 2000)
	})
}

// TestCutAtEachMessage cuts the connection at the first message, then at the second,
// and so on, until a load runs without meeting the cut. On CockroachDB, which is slower
// to connect to, it takes every message only with the tag chaos.
func TestCutAtEachMessage(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		set.Chunk, set.Workers = 100, 1
		step := 1
		switch {
		case chaos:
		case s.Product == server.CockroachDB:
			step = 13
		default:
			step = 3
		}
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter}
		cuts := 0
		for n := 1; ; n += step {
			do := actions[n%2]
			fault := &loadertest.Fault{Nth: n, Do: do}
			l, _, err := run(t, url, 200, set, fault)
			if err != nil {
				t.Fatalf("%v at message %d: %v", do, n, err)
			}
			if !fault.Fired() {
				t.Logf("%d cuts; none is left at message %d", cuts, n)
				return
			}
			cuts++
			got, err := l.Verify(context.Background(), nil)
			if err != nil || !got.OK() {
				t.Fatalf("%v at message %d: %+v, %v", do, n, got, err)
			}
			l.Close()
		}
	})
}

func TestStormsOf40001(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		storm := func(p float64) *loadertest.Fault {
			return &loadertest.Fault{When: commitOf(s, set), Do: loadertest.Inject, Code: "40001", P: p, Seed: 3}
		}
		set.Chunk = 50
		l, res, err := run(t, url, 2000, set, storm(0.3))
		if err != nil {
			t.Fatal(err)
		}
		if res.Retries == 0 {
			t.Error("no retry was counted")
		}
		checkExact(t, url, l, 2000)

		set.RetryFor = 300 * time.Millisecond
		_, _, err = run(t, url, 2000, set, storm(1))
		if !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "40001") {
			t.Errorf("got %v, want to give up with the SQLSTATE", err)
		}
	})
}

// TestLoadersShareALoad runs several loaders with different chunk sizes on one load.
func TestLoadersShareALoad(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		const n = 30_000
		first := set
		first.Chunk = 500
		l := newLoad(t, url, load.Request{What: load.Points, Rows: n, Settings: first})
		loaders := []*load.Load{l}
		for _, chunk := range []int64{333, 777} {
			other := set
			other.Chunk = chunk
			o, err := load.Resume(context.Background(), open(t, url), l.ID, other)
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			loaders = append(loaders, o)
		}
		rows := make([]int64, len(loaders))
		var wg sync.WaitGroup
		for i, l := range loaders {
			wg.Go(func() {
				res, err := l.Run(context.Background())
				if err != nil {
					t.Errorf("loader %d: %v", i, err)
				}
				rows[i] = res.Rows
			})
		}
		wg.Wait()
		t.Logf("rows by loader: %d", rows)
		checkExact(t, url, l, n)
	})
}

// TestStopAndResume stops a load after its first chunks and goes on with another
// chunk size.
func TestStopAndResume(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		stop := make(chan struct{})
		set.Chunk, set.Stop = 300, stop
		var once sync.Once
		set.Observe = func(loader.Event) { once.Do(func() { close(stop) }) }
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 20_000, Settings: set})
		res, err := l.Run(context.Background())
		if !errors.Is(err, loader.ErrStopped) || res.Rows == 0 || res.Rows == 20_000 {
			t.Fatalf("got %d rows, %v; want a part, and ErrStopped", res.Rows, err)
		}
		set.Chunk, set.Stop, set.Observe = 1234, nil, nil
		again, err := load.Resume(context.Background(), open(t, url), l.ID, set)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		more, err := again.Run(context.Background())
		if err != nil || res.Rows+more.Rows != 20_000 {
			t.Fatalf("got %d rows and %d more, %v; want 20000", res.Rows, more.Rows, err)
		}
		checkExact(t, url, l, 20_000)
	})
}

// TestTooLargeIsHalved has the server refuse every chunk above a size.
func TestTooLargeIsHalved(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		fault := &loadertest.Fault{When: loadertest.Match{SQL: `(INSERT INTO|COPY) .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "53400", Times: 2}
		set.Chunk = 400
		l, res, err := run(t, url, 2000, set, fault)
		if err != nil {
			t.Fatal(err)
		}
		if res.Halved == 0 {
			t.Error("no chunk was halved")
		}
		checkExact(t, url, l, 2000)
	})
}

// TestServerGoesAwayAndComesBack kills the server in the middle of a load.
func TestServerGoesAwayAndComesBack(t *testing.T) {
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			s, db := loadertest.OwnServer(t, p)
			url := s.NewDatabase(t)
			var once sync.Once
			half := make(chan struct{})
			set := load.Settings{Chunk: 100, RetryFor: time.Minute, Observe: func(loader.Event) { once.Do(func() { close(half) }) }}
			l := newLoad(t, url, load.Request{What: load.Points, Rows: 60_000, Settings: set})
			failed := make(chan error, 1)
			go func() {
				_, err := l.Run(context.Background())
				failed <- err
			}()
			<-half
			if err := db.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := db.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			checkExact(t, url, l, 60_000)
		})
	}
}

// TestForgottenMeanwhile forgets a load while it runs.
func TestForgottenMeanwhile(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		var once sync.Once
		var l *load.Load
		set.Chunk, set.RetryFor = 10, 5*time.Second
		set.Observe = func(loader.Event) {
			once.Do(func() { loadertest.Exec(t, url, "DELETE FROM loader.claims", "DELETE FROM loader.loads") })
		}
		l = newLoad(t, url, load.Request{What: load.Points, Rows: 100_000, Settings: set})
		_, err := l.Run(context.Background())
		if !errors.Is(err, loader.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
	})
}
