package bank_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// commitOf matches the message with which a transfer becomes durable.
func commitOf(s loadertest.Server) loadertest.Match {
	if s.Cockroach {
		return loadertest.Match{SQL: `^RELEASE SAVEPOINT cockroach_restart`, Kind: loadertest.MsgStatement}
	}
	return loadertest.Match{SQL: `^COMMIT`, Kind: loadertest.MsgStatement}
}

// broken makes n transfers between accounts through a proxy with faults.
func broken(t *testing.T, url string, n int64, o bank.Options, accounts map[int64]int64, faults ...*loadertest.Fault) (*ledger, bank.Result, error) {
	t.Helper()
	l := &ledger{accounts: maps.Clone(accounts)}
	o.Observe = l.observe
	proxy := loadertest.NewProxy(t, url)
	b := open(t, proxy.URL(), o)
	proxy.Add(faults...)
	ctx, cancel := context.WithCancel(context.Background())
	if o.AttemptTimeout > 0 {
		// A bound that holds on a busy machine too, and that silence would never meet.
		ctx, cancel = context.WithTimeout(ctx, 40*o.AttemptTimeout)
	}
	defer cancel()
	res, err := b.Run(ctx, n)
	b.Close()
	proxy.CloseAll() // what is silent would be waited for at the end of the test
	if ctx.Err() != nil {
		t.Fatalf("not back within 40 times an attempt's: %v", err)
	}
	return l, res, err
}

// ambiguous are the faults after which a client does not know what has become of its
// transfer.
func ambiguous(s loadertest.Server) map[string]*loadertest.Fault {
	return map[string]*loadertest.Fault{
		"reply swallowed":    {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.SwallowReply},
		"40003 after commit": {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "40003"},
		"40003, rolled back": {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.Inject, Code: "40003"},
		"cut after commit":   {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.CutAfter},
		"server ends it":     {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "57P01"},
	}
}

func TestAmbiguousCommits(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for name, fault := range ambiguous(s) {
			t.Run(name, func(t *testing.T) {
				if name != "reply swallowed" && name != "40003, rolled back" {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				l, res, err := broken(t, url, 40, bank.Options{Workers: 2}, fill(t, url, 10, 1000), fault)
				if err != nil {
					t.Fatal(err)
				}
				if fault.Count() != 5 || res.LookUps == 0 || res.Transfers != 40 {
					t.Errorf("%d faults, %+v", fault.Count(), res)
				}
				checkBank(t, url, l)
			})
		}
	})
}

// TestAmbiguousCommitsWithoutHistory is the control of TestAmbiguousCommits: with no
// history to look up, a transfer whose reply is lost is made twice, which the sum of
// all accounts does not show.
func TestAmbiguousCommitsWithoutHistory(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		fault := ambiguous(s)["reply swallowed"]
		l, res, err := broken(t, url, 40, bank.Options{Workers: 2, Unproven: true}, fill(t, url, 10, 1000), fault)
		if err != nil || res.After.Balance != "10000" {
			t.Fatalf("%+v, %v", res, err)
		}
		d, err := loadertest.CompareTable(url, accountsTable, l.rows())
		if err != nil || d.OK() {
			t.Errorf("%v, %v: want balances that differ", d, err)
		}
	})
}

// TestTransferThatArrivesLate holds a commit back until the transfer has been tried
// again, and then lets it arrive.
func TestTransferThatArrivesLate(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		accounts := fill(t, url, 4, 1<<40)
		fault := &loadertest.Fault{When: commitOf(s), Nth: 3, Do: loadertest.Hold}
		released := make(chan []string, 1)
		proxy := loadertest.NewProxy(t, url)
		l := &ledger{accounts: accounts}
		b := open(t, proxy.URL(), bank.Options{Workers: 1, Observe: l.observe})
		proxy.Add(fault)
		// On PostgreSQL the second attempt looks the first one up in vain, and then waits
		// for its locks; on CockroachDB the look-up waits for them.
		waits := `FOR UPDATE`
		if s.Cockroach {
			waits = `FROM loader.transfers`
		}
		again := &loadertest.Fault{Do: loadertest.Delay, When: loadertest.Match{
			SQL: waits, Kind: loadertest.MsgStatement, Func: func(*loadertest.Message) bool { return fault.Fired() },
		}}
		proxy.Add(again)
		go func() {
			<-fault.Done()
			<-again.Done()
			released <- fault.Release()
		}()
		res, err := b.Run(context.Background(), 10)
		if err != nil {
			t.Fatal(err)
		}
		replies := <-released
		t.Logf("the late commit was answered by %q; %d look-ups", replies, res.LookUps)
		// Either it comes in and is found, or its session was ended before: then the
		// transfer was made by another. CockroachDB may not know which, and says so.
		ended := len(replies) == 1 && (replies[0] == "ERROR 57P01" || s.Cockroach && replies[0] == "ERROR 40003")
		if len(replies) != 1 || strings.HasPrefix(replies[0], "ERROR") && !ended || res.LookUps == 0 {
			t.Errorf("the late commit was answered by %q, %+v; want it to come in and be found, or refused", replies, res)
		}
		checkBank(t, url, l)
		b.Close()
	})
}

// TestTransferThatNeverArrives leaves the locks of an attempt behind whose commit never
// comes: the server ends it, and the transfer is made.
func TestTransferThatNeverArrives(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		fault := &loadertest.Fault{When: commitOf(s), Nth: 3, Do: loadertest.Hold}
		l, res, err := broken(t, url, 10, bank.Options{Workers: 1, AttemptTimeout: 500 * time.Millisecond}, fill(t, url, 2, 1<<40), fault)
		if err != nil {
			t.Fatal(err)
		}
		if res.Retries == 0 || !fault.Fired() {
			t.Errorf("%+v", res)
		}
		checkBank(t, url, l)
	})
}

// TestBlackHole lets every connection vanish for a while.
func TestBlackHole(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		proxy := loadertest.NewProxy(t, url)
		b := open(t, proxy.URL(), bank.Options{Workers: 4, AttemptTimeout: 300 * time.Millisecond, Observe: l.observe})
		hole := &loadertest.Fault{When: commitOf(s), Nth: 10, Do: loadertest.BlackHoleAll}
		proxy.Add(hole)
		go func() {
			<-hole.Done()
			time.Sleep(400 * time.Millisecond) // longer than an attempt may take
			proxy.Heal()
		}()
		res, err := b.Run(context.Background(), 60)
		if err != nil {
			t.Fatal(err)
		}
		if res.Retries == 0 {
			t.Error("no retry was counted")
		}
		b.Close()
		checkBank(t, url, l)
	})
}

// TestSilenceAroundTransfers has a connection go silent when the run is entered in the
// history, in a transfer, and when it ends in the history: the attempt ends with its time,
// the next is made, and nobody waits to say good-bye.
func TestSilenceAroundTransfers(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, sql := range []string{`^INSERT INTO loader\.transfer_runs`, `FOR UPDATE`, `^UPDATE loader\.transfer_runs`} {
			url := s.NewDatabase(t)
			hole := &loadertest.Fault{When: loadertest.Match{SQL: sql, Kind: loadertest.MsgStatement}, Do: loadertest.BlackHole}
			l, _, err := broken(t, url, 5, bank.Options{Workers: 1, AttemptTimeout: 300 * time.Millisecond}, fill(t, url, 10, 1000), hole)
			if err != nil || !hole.Fired() {
				t.Fatalf("%s: fired: %t, %v", sql, hole.Fired(), err)
			}
			checkBank(t, url, l)
		}
	})
}

// TestTransferCutAtEachMessage cuts a run at its first message, then at its second, and
// so on, until a run ends without meeting the cut.
func TestTransferCutAtEachMessage(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		accounts := fill(t, url, 6, 1<<40)
		step := 11
		if loadertest.Chaos {
			step = 1
		}
		all := &ledger{accounts: accounts}
		for n := 1; ; n += step {
			fault := &loadertest.Fault{Nth: n, Do: []loadertest.Action{loadertest.Cut, loadertest.CutAfter}[n%2]}
			l, _, err := broken(t, url, 2, bank.Options{Workers: 1, Seed: uint64(n)}, all.accounts, fault)
			if err != nil {
				t.Fatalf("%v at message %d: %v", fault.Do, n, err)
			}
			all.accounts, all.made = l.accounts, append(all.made, l.made...)
			if !fault.Fired() {
				t.Logf("no message %d is left to cut at", n)
				break
			}
		}
		checkBank(t, url, all)
	})
}

func TestTransferStorms(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for name, when := range map[string]loadertest.Match{
			"at commit":     commitOf(s),
			"at the update": {SQL: `^UPDATE`, Kind: loadertest.MsgStatement},
			"at the read":   {SQL: `FOR UPDATE`, Kind: loadertest.MsgStatement},
		} {
			t.Run(name, func(t *testing.T) {
				if name != "at commit" {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				l, res, err := broken(t, url, 60, bank.Options{}, fill(t, url, 10, 1000),
					&loadertest.Fault{When: when, Do: loadertest.Inject, Code: "40001", P: 0.4, Seed: 3})
				if err != nil {
					t.Fatal(err)
				}
				if res.Retries < 10 {
					t.Errorf("%d retries were counted", res.Retries)
				}
				checkBank(t, url, l)
			})
		}
		t.Run("without end", func(t *testing.T) {
			url := s.NewDatabase(t)
			l, res, err := broken(t, url, 60, bank.Options{RetryFor: 300 * time.Millisecond}, fill(t, url, 10, 1000),
				&loadertest.Fault{When: commitOf(s), Nth: 20, Times: -1, Do: loadertest.Inject, Code: "40001"})
			if !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "SQLSTATE 40001") {
				t.Errorf("got %v, want to give up with the SQLSTATE", err)
			}
			if res.Transfers == 0 || res.Transfers != int64(len(l.made)) {
				t.Errorf("%d transfers in the result, %d observed", res.Transfers, len(l.made))
			}
			checkBank(t, url, l)
		})
	})
}

// TestContention makes all transfers between the same two accounts.
func TestContention(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 2, 1<<40)}
		b := open(t, url, bank.Options{Workers: 8, Observe: l.observe})
		res, err := b.Run(context.Background(), 200)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d retries, p50 %v, p99 %v", res.Retries, res.P50, res.P99)
		checkBank(t, url, l)
		b.Close()
	})
}

// TestServerCrashesDuringTransfers kills the server and starts it again.
func TestServerCrashesDuringTransfers(t *testing.T) {
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			if p == server.CockroachDB {
				loadertest.Long(t)
			}
			s, db := loadertest.OwnServer(t, p)
			url := s.NewDatabase(t)
			l := &ledger{accounts: fill(t, url, 10, 1000)}
			var once sync.Once
			some, ended := make(chan struct{}), make(chan error, 1)
			b := open(t, url, bank.Options{RetryFor: time.Minute, Observe: func(tr bank.Transfer) {
				if l.observe(tr); len(l.made) == 50 {
					once.Do(func() { close(some) })
				}
			}})
			var res bank.Result
			go func() {
				var err error
				res, err = b.Run(context.Background(), 200)
				ended <- err
			}()
			select {
			case <-some:
			case err := <-ended:
				t.Fatal(err)
			}
			if err := db.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := db.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			t.Logf("%d retries, %d look-ups", res.Retries, res.LookUps)
			if res.Retries == 0 {
				t.Error("the server went away and no retry was counted")
			}
			b.Close()
			checkBank(t, url, l)
		})
	}
}
