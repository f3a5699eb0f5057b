package bank_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// commits matches the message with which a transfer becomes durable.
func commits(s loadertest.Server) loadertest.Match {
	if s.Cockroach {
		return loadertest.Match{SQL: `^RELEASE SAVEPOINT cockroach_restart`, Kind: loadertest.MsgStatement}
	}
	return loadertest.Match{SQL: `^COMMIT`, Kind: loadertest.MsgStatement}
}

// moves matches the first message of the statements that move money: what comes before
// has locked the accounts.
var moves = loadertest.Match{SQL: `^UPDATE .*accounts`, Kind: loadertest.MsgBind}

// transfers makes n transfers between ten accounts through a proxy with faults.
func transfers(t *testing.T, url string, n int64, o bank.Options, faults ...*loadertest.Fault) (*ledger, bank.Result, *loadertest.Proxy, error) {
	t.Helper()
	loadertest.Exec(t, url, "DROP TABLE IF EXISTS accounts")
	l := &ledger{accounts: fill(t, url, 10, 1<<40)}
	proxy := loadertest.NewProxy(t, url)
	o.Observe = l.observe
	o.Seed = 3
	b := open(t, proxy.URL(), o)
	t.Cleanup(proxy.CloseAll) // before the bank is closed
	proxy.Add(faults...)
	res, err := b.Run(context.Background(), n)
	return l, res, proxy, err
}

// TestTransfersUnderFaults holds what the client was told against what the accounts hold.
func TestTransfersUnderFaults(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		at := commits(s)
		url := s.NewDatabase(t)
		for _, test := range []struct {
			name  string
			doubt bool // the outcome is uncertain, and looked up
			fault *loadertest.Fault
		}{
			{"reset before COMMIT", true, &loadertest.Fault{When: at, Nth: 3, Times: 3, Do: loadertest.Cut, Reset: true}},
			{"reply of COMMIT lost", true, &loadertest.Fault{When: at, Nth: 3, Times: 3, Do: loadertest.SwallowReply}},
			{"cut behind COMMIT", true, &loadertest.Fault{When: at, Nth: 3, Times: 3, Do: loadertest.CutAfter}},
			{"cut in the middle of the update", true, &loadertest.Fault{When: moves, Nth: 3, Times: 3, Do: loadertest.CutMiddle}},
			{"40001 in three of ten", false, &loadertest.Fault{When: at, Do: loadertest.Inject, Code: "40001", P: 0.3, Seed: 2}},
			{"40003 after COMMIT", true, &loadertest.Fault{When: at, Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "40003"}},
			{"57P01 after COMMIT", true, &loadertest.Fault{When: at, Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "57P01"}},
			{"late COMMIT", true, &loadertest.Fault{When: at, Nth: 3, Do: loadertest.Hold}},
			{"black hole at COMMIT", true, &loadertest.Fault{When: at, Nth: 3, Do: loadertest.BlackHole}},
			{"black hole while accounts are locked", true, &loadertest.Fault{When: moves, Nth: 3, Do: loadertest.BlackHole}},
		} {
			t.Run(test.name, func(t *testing.T) {
				loadertest.CheckNoLeaks(t)
				fault := test.fault
				l, res, proxy, err := transfers(t, url, 40, bank.Options{Workers: 2, AttemptTimeout: time.Second, RetryFor: time.Minute}, fault)
				if err != nil {
					t.Fatal(err)
				}
				if !fault.Fired() || res.Retries == 0 || test.doubt && res.LookUps == 0 {
					t.Errorf("the fault fired %d times: %d retries, %d look-ups", fault.Count(), res.Retries, res.LookUps)
				}
				if test.fault.Do == loadertest.Hold {
					t.Logf("the late COMMIT was answered by %q", fault.Release())
				}
				proxy.Heal()
				checkRun(t, url, l)
			})
		}
	})
}

// checkRun is checkBank where other runs are in the history too.
func checkRun(t *testing.T, url string, l *ledger) {
	t.Helper()
	loadertest.CheckTable(t, url, accountsTable, l.rows())
	v, err := open(t, url, bank.Options{}).Verify(context.Background())
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestTransfersWithoutProof is the control: without the history a transfer whose reply was
// lost is made twice, and the accounts tell.
func TestTransfersWithoutProof(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		fault := &loadertest.Fault{When: commits(s), Nth: 3, Times: 3, Do: loadertest.SwallowReply}
		url := s.NewDatabase(t)
		l, _, _, err := transfers(t, url, 40, bank.Options{Workers: 2, Unproven: true}, fault)
		if err != nil {
			t.Fatal(err)
		}
		d, err := loadertest.CompareTable(url, accountsTable, l.rows())
		if err != nil || d.OK() {
			t.Errorf("%v, %v: want balances that do not follow from what the client was told", d, err)
		}
	})
}

// TestTransfersCutAtEachMessage cuts at the first message that a run sends, then at the
// second, until a run is not cut.
func TestTransfersCutAtEachMessage(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		step := 7
		if chaos {
			step = 1
		}
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter, loadertest.CutMiddle}
		for n, cuts := 1, 0; ; n, cuts = n+step, cuts+1 {
			fault := &loadertest.Fault{Nth: n, Do: actions[n%3], Reset: n%2 == 0}
			l, _, _, err := transfers(t, url, 3, bank.Options{Workers: 1}, fault)
			if err != nil {
				t.Fatalf("%v at message %d: %v", fault.Do, n, err)
			}
			checkRun(t, url, l)
			if t.Failed() {
				t.Fatalf("%v at message %d", fault.Do, n)
			}
			if !fault.Fired() {
				t.Logf("%d cuts; none is left at message %d", cuts, n)
				return
			}
		}
	})
}

// TestTransfersGiveUp has every COMMIT refused: the run ends with the SQLSTATE, and no
// money has moved.
func TestTransfersGiveUp(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		fault := &loadertest.Fault{When: commits(s), Do: loadertest.Inject, Code: "40001", Times: -1}
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		o := bank.Options{Workers: 1, RetryFor: 500 * time.Millisecond, Observe: l.observe}
		// The history is made, and its transactions are over, before the faults begin.
		if _, err := open(t, url, o).Run(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		proxy := loadertest.NewProxy(t, url, fault)
		if _, err := open(t, proxy.URL(), o).Run(context.Background(), 5); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "40001") {
			t.Errorf("got %v, want to give up with 40001", err)
		}
		proxy.Heal()
		loadertest.CheckTable(t, url, accountsTable, l.rows())
	})
}

// TestTransfersWhileTheServerCrashes kills the server in the middle of a run.
func TestTransfersWhileTheServerCrashes(t *testing.T) {
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			if p == server.CockroachDB && !chaos {
				loadertest.Skip(t, "the crash of CockroachDB in a run of transfers is for -tags chaos")
			}
			s, db := loadertest.OwnServer(t, p)
			url := s.NewDatabase(t)
			l := &ledger{accounts: fill(t, url, 10, 1<<40)}
			var once sync.Once
			some := make(chan struct{})
			b := open(t, url, bank.Options{Workers: 4, RetryFor: 2 * time.Minute, Observe: func(tr bank.Transfer) {
				if l.observe(tr); len(l.made) > 20 {
					once.Do(func() { close(some) })
				}
			}})
			ended := make(chan error, 1)
			go func() {
				_, err := b.Run(context.Background(), 3000)
				ended <- err
			}()
			<-some
			if err := db.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := db.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			checkBank(t, url, l)
		})
	}
}
