package bank_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
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
		ended := len(replies) == 1 && (replies[0] == "ERROR 57P01" || s.Cockroach && (replies[0] == "ERROR 40003" || replies[0] == "ERROR XXUUU"))
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

// TestBlackHole lets every connection vanish until the attempts on them are given up.
func TestBlackHole(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		proxy := loadertest.NewProxy(t, url)
		r := begin(t, proxy.URL(), l, bank.Options{Workers: 4, AttemptTimeout: 300 * time.Millisecond})
		r.more(t, 10)
		was := proxy.Stats().Connections
		proxy.BlackHole(nil)
		loadertest.Eventually(t, "new connections", func() bool { return proxy.Stats().Connections >= was+4 })
		proxy.Heal()
		r.more(t, 50)
		if res := r.end(t); res.Retries == 0 {
			t.Error("no retry was counted")
		}
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
