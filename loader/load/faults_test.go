package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
	"bulkload/loader/source"
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
		url := s.NewDatabase(t)
		list := ways(s)
		if !loadertest.Chaos {
			list = usual(s)
		}
		for _, set := range list {
			t.Run(name(set), func(t *testing.T) {
				loadertest.CheckNoLeaks(t)
				clearTables(t, url)
				f(t, s, url, set)
			})
		}
	})
}

// TestConnectionsBreakAtCommit breaks the connection around the commits of chunks: before
// the server has it, while it travels, behind it, and behind the server's answer.
func TestConnectionsBreakAtCommit(t *testing.T) {
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		at := sub.commits(srv)
		faults := []*loadertest.Fault{
			{When: at, Nth: 2, Times: 3, Do: loadertest.Cut, Reset: true},
			{When: at, Nth: 2, Times: 3, Do: loadertest.SwallowReply},
		}
		if loadertest.Chaos {
			faults = append(faults,
				&loadertest.Fault{When: at, Nth: 2, Times: 3, Do: loadertest.CutMiddle, Reset: true},
				&loadertest.Fault{When: at, Nth: 2, Times: 3, Do: loadertest.CutAfter},
				&loadertest.Fault{When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete, SQL: at.SQL}, Nth: 2, Times: 3, Do: loadertest.CutMiddle})
		}
		for _, fault := range faults {
			clearTables(t, url)
			x := sub.start(t, url, 1000, fault)
			res := x.mustEnd(t)
			// An answer may be quicker than the cut behind what it answers.
			if !fault.Fired() || res.Retries == 0 && fault.Do != loadertest.CutAfter {
				t.Errorf("%v: happened %d times, %d retries", fault.Do, fault.Count(), res.Retries)
			}
			if fault.Do == loadertest.SwallowReply && res.LookUps == 0 {
				t.Error("a reply was lost, and nothing was looked up")
			}
			sub.exact(t, url, x.Load, 1000)
			if t.Failed() {
				t.Fatalf("after %v", fault.Do)
			}
		}
	})
}

// TestConnectionsBreakInTheRows resets the connection while the rows of a chunk travel:
// in the COPY, or in the parameters of the INSERT.
func TestConnectionsBreakInTheRows(t *testing.T) {
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		kind := loadertest.MsgBind
		if sub.Via == commit.Copy {
			kind = loadertest.MsgCopyData
		}
		actions := []loadertest.Action{loadertest.CutMiddle}
		if loadertest.Chaos {
			actions = append(actions, loadertest.Cut, loadertest.CutAfter)
		}
		for _, do := range actions {
			clearTables(t, url)
			fault := &loadertest.Fault{When: loadertest.Match{SQL: rowsOf, Kind: kind}, Nth: 2, Times: 3, Do: do, Reset: true}
			x := sub.start(t, url, 1000, fault)
			res := x.mustEnd(t)
			if !fault.Fired() || res.Retries == 0 {
				t.Errorf("%v: happened %d times, %d retries", do, fault.Count(), res.Retries)
			}
			sub.exact(t, url, x.Load, 1000)
		}
	})
}

// TestSwallowedRepliesWithoutProof is their control: with ledger and look-up off, a reply
// that is lost must be seen, by a duplicate key, or by rows that are there twice where no
// key stands in the way. An account whose id is taken is drawn again.
func TestSwallowedRepliesWithoutProof(t *testing.T) {
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.Unproven = true
		x := sub.start(t, url, 1000, &loadertest.Fault{When: sub.commits(srv), Nth: 2, Times: 3, Do: loadertest.SwallowReply})
		_, err := x.wait()
		var dup *commit.DuplicateError
		switch {
		case sub.kind == "points" && !errors.As(err, &dup):
			t.Errorf("got %v, want the duplicate that nothing explains without look-up and ledger", err)
		case sub.kind != "points" && sub.count(t, url) <= 1000:
			t.Errorf("%d rows, %v; want more than 1000", sub.count(t, url), err)
		}
	})
}

// TestForeignRowsAreNotTakenForOurs has somebody else write a row under a key of the load:
// the look-up behind the duplicate key compares what the rows hold, and names it.
func TestForeignRowsAreNotTakenForOurs(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 1000, Seed: 11, Settings: load.Settings{Way: commit.Statement, Via: commit.Insert, Chunk: 100, Workers: 1}})
		key := l.Keys.First + 5
		loadertest.Exec(t, url, fmt.Sprintf("INSERT INTO points (id, x, y, z) VALUES (%d, 1, 2, 3)", key))
		_, err := l.Run(context.Background())
		var dup *commit.DuplicateError
		if !errors.As(err, &dup) || dup.Key != fmt.Sprintf("id=%d", key) {
			t.Errorf("got %v, want key %d refused", err, key)
		}
		loadertest.Exec(t, url, fmt.Sprintf("DELETE FROM points WHERE id = %d", key))
		l.Close()
		resume(t, url, l, load.Settings{})
		checkExact(t, url, l, 1000)
	})
}

// TestChunkThatIsThereByHalf has some rows of a chunk of the statement way in the table
// before it is sent, as after a resume with another chunk size: those that are missing are
// sent, and none of the others.
func TestChunkThatIsThereByHalf(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := newLoad(t, url, load.Request{What: load.Points, Rows: 1000, Seed: 11, Settings: load.Settings{Way: commit.Statement, Via: commit.Insert, Chunk: 100, Workers: 1}})
		c := rows.NewChunk(source.Points{}.Columns())
		if err := l.Job.Source.Fill(c, chunker.RowSpan(140, 50)); err != nil {
			t.Fatal(err)
		}
		for i := range c.Len() {
			exec(t, url, "INSERT INTO points (id, x, y, z) VALUES ($1, $2, $3, $4)", c.Col(0).Ints[i], c.Col(1).Floats[i], c.Col(2).Floats[i], c.Col(3).Floats[i])
		}
		res, err := l.Run(context.Background())
		if err != nil || res.Rows != 1000 || res.LookUps == 0 {
			t.Fatalf("got %d rows, %d look-ups, %v", res.Rows, res.LookUps, err)
		}
		checkExact(t, url, l, 1000)
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

// TestCutAtEachMessage cuts the connection at the first message that is sent to open and
// run a load, then at the second, and so on, until a load does not meet the cut. Subjects
// that others stand for, and all without the tag chaos, take every few messages only.
func TestCutAtEachMessage(t *testing.T) {
	which := shortOf
	if loadertest.Chaos {
		which = all
	}
	eachOf(t, which, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.Chunk, sub.Workers = 100, 1
		step := 1
		switch {
		case loadertest.Chaos && sub.among(srv) && (!srv.Cockroach || sub.Way == commit.Statement):
		case loadertest.Chaos:
			step = 6
		case srv.Cockroach:
			loadertest.Long(t)
		default:
			step = 29
		}
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter, loadertest.CutMiddle}
		cuts := 0
		for n := 1 + rand.IntN(step); ; n += step {
			clearTables(t, url)
			fault := &loadertest.Fault{Nth: n, Do: actions[n%3], Reset: n%2 == 0}
			proxy := loadertest.NewProxy(t, url, fault)
			x := sub.enter(t, proxy.URL(), url, 200)
			_, err := x.Run(context.Background())
			if err != nil {
				t.Fatalf("%v at message %d: %v", fault.Do, n, err)
			}
			x.Close()
			proxy.Close()
			if !fault.Fired() {
				t.Logf("%d cuts; none is left at message %d", cuts, n)
				return
			}
			cuts++
			sub.exact(t, url, x.Load, 200)
			if t.Failed() {
				t.Fatalf("%v at message %d", fault.Do, n)
			}
		}
	})
}

// TestStormsOf40001 has three commits of ten refused, and all: then the load gives up with
// the SQLSTATE, and the time between its attempts was seen to grow.
func TestStormsOf40001(t *testing.T) {
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Long(t)
		}
		storm := &loadertest.Fault{When: sub.commits(srv), Do: loadertest.Inject, Code: "40001", P: 0.3, Seed: 3}
		sub.Chunk = 50
		x := sub.start(t, url, 1500, storm)
		if res := x.mustEnd(t); res.Retries == 0 {
			t.Error("no retry was counted")
		}
		sub.exact(t, url, x.Load, 1500)

		clearTables(t, url)
		sub.RetryFor, sub.Workers = time.Second, 1
		storm = &loadertest.Fault{When: sub.commits(srv), Do: loadertest.Inject, Code: "40001", Times: -1}
		storm.When.SQL = rowsOf // every attempt sends rows; the registry's transactions go on
		x = sub.start(t, url, 1500, storm)
		if _, err := x.wait(); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "40001") {
			t.Errorf("got %v, want to give up with the SQLSTATE", err)
		}
		storm.CheckGrows(t)
		x.proxy.Heal()
		x.Close()
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, 1500)
	})
}

// TestLoadersShareALoad runs several loaders with different chunk sizes on one load: some
// are there from the beginning, others come while it runs, and some sessions are ended.
func TestLoadersShareALoad(t *testing.T) {
	numbers := []int{3}
	if loadertest.Chaos {
		numbers = []int{2, 5}
	}
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		for _, number := range numbers {
			clearTables(t, url)
			n := int64(12_000)
			some := make(chan struct{}, 1)
			sub.Chunk = 50
			sub.Observe = func(loader.Event) {
				select {
				case some <- struct{}{}:
				default:
				}
			}
			x := sub.startDirect(t, url, n)
			<-some // the first still runs
			rows := make([]int64, number)
			var others sync.WaitGroup
			for i := range number - 1 {
				set := sub.Settings
				set.Chunk, set.Observe, set.Input = []int64{33, 77, 120, 250}[i%4], nil, source.NewInput(nil)
				l, err := load.Resume(context.Background(), loadertest.Open(t, url), x.ID, set)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.Close)
				others.Go(func() {
					res, err := l.Run(context.Background())
					if err != nil {
						t.Errorf("loader %d: %v", i+2, err)
					}
					rows[i+1] = res.Rows
				})
			}
			rows[0] = x.mustEnd(t).Rows
			others.Wait()
			t.Logf("rows by loader: %d", rows)
			sub.exact(t, url, x.Load, n)
		}
	})
}

// TestStopAndResume stops a load after its first chunks and goes on with another
// chunk size.
func TestStopAndResume(t *testing.T) {
	eachWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		if !s.Cockroach {
			loadertest.Long(t)
		}
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
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, set)
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
		if !s.Cockroach {
			loadertest.Long(t)
		}
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

// TestRunThatWasTakenOverWritesNothing gives the claims of a run to another: by the
// transaction way no ledger row is its own any more, and so no row.
func TestRunThatWasTakenOverWritesNothing(t *testing.T) {
	eachOf(t, func(s subject) bool { return s.Way == commit.Transaction }, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
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

// TestForgottenMeanwhile deletes the record of a load while it runs.
func TestForgottenMeanwhile(t *testing.T) {
	eachSubject(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Long(t)
		}
		var once sync.Once
		sub.Chunk, sub.RetryFor = 10, 5*time.Second
		sub.Observe = func(loader.Event) {
			once.Do(func() { loadertest.Exec(t, url, "DELETE FROM loader.claims", "DELETE FROM loader.loads") })
		}
		if _, err := sub.startDirect(t, url, 3000).wait(); !errors.Is(err, loader.ErrLost) {
			t.Errorf("got %v, want ErrLost", err)
		}
		if n := sub.count(t, url); n%10 != 0 {
			t.Errorf("%d rows are in: a chunk is there by half", n)
		}
	})
}
