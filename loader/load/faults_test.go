package load_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// commitOf matches the message with which a chunk of a way becomes durable.
func commitOf(s loadertest.Server, set load.Settings) loadertest.Match {
	switch {
	case set.CommitMode == commit.Statement && set.Method == commit.Copy:
		return loadertest.Match{SQL: `^COPY .*(points|accounts)`, Kind: loadertest.MsgStatement}
	case set.CommitMode == commit.Statement:
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
	l := newLoad(t, proxy.URL(), load.Request{Dataset: dataset.NewPoints(n, 11), Settings: set})
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
		for _, kind := range faults {
			var fault *loadertest.Fault
			var x *trial
			var res loader.Result
			for tries := 1; tries <= 5 && (res.Retries == 0 || kind.Do == loadertest.SwallowReply && res.LookUps == 0); tries++ {
				// On a busy machine all of them may meet a claim, which is no chunk.
				fault = &loadertest.Fault{When: kind.When, Nth: kind.Nth, Times: kind.Times, Do: kind.Do, Reset: kind.Reset}
				clearTables(t, url)
				x = sub.start(t, url, 1000, fault)
				res = x.mustEnd(t)
			}
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
		if sub.Method == commit.Copy {
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
		sub.SkipVerification = true
		x := sub.start(t, url, 1000, &loadertest.Fault{When: sub.commitsOfChunks(srv), Nth: 2, Times: 3, Do: loadertest.SwallowReply})
		_, err := x.wait()
		var dup *commit.DuplicateError
		switch keys := sub.kind == "points" || sub.kind == "file"; {
		case keys && !errors.As(err, &dup):
			t.Errorf("got %v, want the duplicate that nothing explains without look-up and ledger", err)
		case !keys && sub.count(t, url) <= 1000:
			t.Errorf("%d rows, %v; want more than 1000", sub.count(t, url), err)
		}
	})
}

// TestForeignRowsAreNotTakenForOurs has somebody else write a row under a key of the load:
// the look-up behind the duplicate key compares what the rows hold, and names it.
func TestForeignRowsAreNotTakenForOurs(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(1000, 11), Settings: load.Settings{CommitMode: commit.Statement, Method: commit.Insert, Chunk: 100, Workers: 1}})
		key := l.Dataset.Keys().First + 5
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
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(1000, 11), Settings: load.Settings{CommitMode: commit.Statement, Method: commit.Insert, Chunk: 100, Workers: 1}})
		c := rows.NewChunk(dataset.PointSource{}.Columns())
		if err := l.Dataset.Source().Fill(c, chunker.RowSpan(140, 50)); err != nil {
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
		if set.Method == commit.Copy && set.CommitMode == commit.Statement {
			loadertest.Skip(t, "the rows of a COPY follow its statement, so none is held back")
		}
		if set.CommitMode == commit.Transaction {
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

// TestStatementsThatArriveTwice has the network deliver what makes a chunk durable twice,
// on two connections. Of the statement way the copy comes first, where the original is
// held up on its way: that one is refused as a duplicate, looked up, and found.
func TestStatementsThatArriveTwice(t *testing.T) {
	// The rows of a COPY follow it, and rejected records are sent with the end of their transaction: a
	// copy would have a part, or more.
	whole := func(s subject) bool {
		return s.kind != "rejects" && (s.CommitMode != commit.Statement || s.Method != commit.Copy)
	}
	eachOf(t, whole, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Long(t)
		}
		const times = 3
		at := sub.commits(srv)
		if sub.CommitMode == commit.Transaction {
			// The registry's own transactions end in the message of their last statement. A copy of
			// that would not be one of the end alone.
			at = sub.commitsOfRows(srv)
		}
		faults := []*loadertest.Fault{{When: at, Nth: 2, Times: times, Do: loadertest.Duplicate}}
		twice := faults[0]
		if sub.CommitMode == commit.Statement {
			twice.When.Kind = loadertest.MsgBind
			faults = append(faults, &loadertest.Fault{When: at, Nth: 2, Times: times, Do: loadertest.Delay, Delay: 200 * time.Millisecond})
		}
		sub.Workers = 1
		x := sub.start(t, url, 1000, faults...)
		var replies []string
		loadertest.Eventually(t, "the copies", func() bool {
			replies = append(replies, twice.Release()...)
			return len(replies) == times || !x.running()
		})
		res := x.mustEnd(t)
		replies = append(replies, twice.Release()...) // and one that comes behind everything
		t.Logf("the copies were answered by %q; %d look-ups", replies, res.LookUps)
		if len(replies) != times {
			t.Errorf("%d statements arrived twice, want %d", len(replies), times)
		}
		first := 0
		for _, r := range replies {
			if strings.HasPrefix(r, "INSERT 0") {
				first++
			}
		}
		if sub.CommitMode == commit.Statement && first == 0 || res.LookUps < int64(first) {
			t.Errorf("%d copies came before their statement, and %d chunks were looked up", first, res.LookUps)
		}
		sub.exact(t, url, x.Load, 1000)
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

		sub.RetryFor, sub.Workers = time.Second, 1
		storms := []loadertest.Match{{SQL: rowsOf, Kind: loadertest.MsgStatement}}
		if loadertest.Chaos && sub.CommitMode == commit.Transaction {
			storms = append(storms, sub.commitsOfRows(srv))
		}
		for _, at := range storms {
			clearTables(t, url)
			storm = &loadertest.Fault{When: at, Do: loadertest.Inject, Code: "40001", Times: -1}
			x = sub.start(t, url, 1500, storm)
			if _, err := x.wait(); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "40001") {
				t.Errorf("got %v, want to give up with the SQLSTATE", err)
			}
			storm.CheckGrows(t)
			x.proxy.Heal()
			x.Close()
			resume(t, url, x.Load, sub.Settings)
			sub.exact(t, url, x.Load, 1500)
		}
	})
}

// commitsOfChunks is commits without those of the registry. On CockroachDB they end alike, and may
// all come first.
func (s subject) commitsOfChunks(srv loadertest.Server) loadertest.Match {
	if srv.Cockroach && s.CommitMode == commit.Transaction {
		return s.commitsOfRows(srv)
	}
	return s.commits(srv)
}

// commitsOfRows is commits without those of transactions that have sent no rows, which are
// the registry's.
func (s subject) commitsOfRows(srv loadertest.Server) loadertest.Match {
	end, rows := regexp.MustCompile("(?is)"+s.commits(srv).SQL), regexp.MustCompile("(?is)"+rowsOf)
	sent := map[int]bool{} // by connection
	return loadertest.Match{Kind: loadertest.MsgStatement, Func: func(m *loadertest.Message) bool {
		was := sent[m.Conn]
		sent[m.Conn] = rows.MatchString(m.SQL) || was && !regexp.MustCompile("(?i)^BEGIN").MatchString(m.SQL)
		return was && end.MatchString(m.SQL)
	}}
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
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(20_000, 0), Settings: set})
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
