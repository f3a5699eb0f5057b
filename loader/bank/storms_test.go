package bank_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// An endless run makes transfers beside the test until it is stopped.
type endless struct {
	made  atomic.Int64
	stop  chan struct{}
	ended chan struct{}
	res   bank.Result
	err   error
}

// begin begins an endless run, of which l is told.
func begin(t *testing.T, url string, l *ledger, o bank.Options) *endless {
	t.Helper()
	r := &endless{stop: make(chan struct{}), ended: make(chan struct{})}
	o.Stop, o.Observe = r.stop, func(tr bank.Transfer) {
		l.observe(tr)
		r.made.Add(1)
	}
	b := open(t, url, o)
	go func() {
		defer close(r.ended)
		r.res, r.err = b.Run(context.Background(), 1<<40)
		b.Close()
	}()
	return r
}

// more waits until n more transfers have been made.
func (r *endless) more(t *testing.T, n int64) {
	t.Helper()
	was := r.made.Load()
	loadertest.Eventually(t, "transfers", func() bool {
		select {
		case <-r.ended:
			t.Fatal(r.err)
		default:
		}
		return r.made.Load() >= was+n
	})
}

// end stops the run and returns what it has done.
func (r *endless) end(t *testing.T) bank.Result {
	t.Helper()
	close(r.stop)
	<-r.ended
	if !errors.Is(r.err, loader.ErrStopped) {
		t.Fatalf("got %v, want to be stopped", r.err)
	}
	return r.res
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
			retryFor := 800 * time.Millisecond
			if s.Cockroach {
				retryFor /= 4 // the waits on one connection alone are longer
			}
			storm := &loadertest.Fault{When: commitOf(s), Nth: 20, Times: -1, Do: loadertest.Inject, Code: "40001"}
			l, res, err := broken(t, url, 60, bank.Options{Workers: 1, RetryFor: retryFor}, fill(t, url, 10, 1000), storm)
			if !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "SQLSTATE 40001") {
				t.Errorf("got %v, want to give up with the SQLSTATE", err)
			}
			if res.Transfers == 0 || res.Transfers != int64(len(l.made)) {
				t.Errorf("%d transfers in the result, %d observed", res.Transfers, len(l.made))
			}
			storm.CheckGrows(t)
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

// TestSessionsAreEndedAllTheTime ends every session of a run again and again.
func TestSessionsAreEndedAllTheTime(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		storms := 4
		if loadertest.Chaos {
			storms = 10
		}
		url := s.NewDatabase(t)
		l := &ledger{accounts: fill(t, url, 10, 1000)}
		r := begin(t, url, l, bank.Options{RetryFor: time.Minute})
		ended := 0
		for range storms {
			r.more(t, 5)
			ended += s.EndSessions(t, url)
		}
		r.more(t, 5)
		res := r.end(t)
		if ended < storms || res.Retries == 0 {
			t.Errorf("%d sessions were ended, and %d retries counted", ended, res.Retries)
		}
		t.Logf("%d sessions ended, %d transfers, %d retries, %d look-ups", ended, res.Transfers, res.Retries, res.LookUps)
		checkBank(t, url, l)
	})
}

// startup matches the first message of every new connection.
var startup = loadertest.Match{Kind: loadertest.MsgStartup}

// TestServerThatStarts has the server end sessions behind the commit and answer 57P03 to
// new ones, as it does while it starts, and 53300 after that, as one does to which all
// clients come back at once.
func TestServerThatStarts(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		starts := &loadertest.Fault{When: startup, Times: 3, Do: loadertest.Inject, Code: "57P03"}
		full := &loadertest.Fault{When: startup, Times: 3, Do: loadertest.Inject, Code: "53300"}
		l, res, err := broken(t, url, 40, bank.Options{Workers: 2}, fill(t, url, 10, 1000),
			&loadertest.Fault{When: commitOf(s), Nth: 3, Times: 4, Do: loadertest.InjectAfter, Code: "57P01"}, starts, full)
		if err != nil {
			t.Fatal(err)
		}
		if starts.Count() != 3 || full.Count() != 3 || res.LookUps == 0 {
			t.Errorf("%d × 57P03, %d × 53300, %+v", starts.Count(), full.Count(), res)
		}
		checkBank(t, url, l)
	})
}

// TestServerThatNeverStarts is its control: the run ends with the SQLSTATE.
func TestServerThatNeverStarts(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, code := range []string{"57P03", "53300"} {
			url := s.NewDatabase(t)
			never := &loadertest.Fault{When: startup, Times: -1, Do: loadertest.Inject, Code: code}
			l, _, err := broken(t, url, 40, bank.Options{Workers: 1, RetryFor: time.Second}, fill(t, url, 10, 1000),
				&loadertest.Fault{When: commitOf(s), Nth: 3, Times: -1, Do: loadertest.Inject, Code: "57P01"}, never)
			if !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "SQLSTATE "+code) {
				t.Errorf("got %v, want to give up with %s", err, code)
			}
			if len(l.made) != 2 {
				t.Errorf("%d transfers were confirmed, want those before the third", len(l.made))
			}
			checkBank(t, url, l)
		}
	})
}

// TestTimeoutsOfTheServer has the accounts locked for longer than the server waits, by its
// statement timeout, which follows an attempt's, or by the lock timeout of the URL. The
// run ends with the SQLSTATE where the locks stay, and makes its transfers when they go.
func TestTimeoutsOfTheServer(t *testing.T) {
	for _, test := range []struct {
		setting, param string
		attempt        time.Duration
		code           string
	}{
		// A tenth of an attempt must be enough for the server's word to arrive.
		{"statement timeout", "", 2 * time.Second, "57014"},
		{"lock timeout", "&lock_timeout=100ms", 30 * time.Second, "55P03"},
	} {
		t.Run(test.setting, func(t *testing.T) {
			loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
				switch {
				case test.param == "":
					loadertest.Long(t)
				case s.Cockroach:
					loadertest.Skip(t, "CockroachDB 21.1 takes no lock_timeout but 0")
				}
				url := s.NewDatabase(t)
				l := &ledger{accounts: fill(t, url, 2, 1<<40)}
				lock := func() (release func()) {
					return loadertest.Pending(t, url, "UPDATE accounts SET balance = balance WHERE id = 10")
				}
				o := bank.Options{Workers: 1, AttemptTimeout: test.attempt, RetryFor: 300 * time.Millisecond}
				r := begin(t, url+test.param, l, o)
				r.more(t, 5)
				release := lock()
				<-r.ended
				if !errors.Is(r.err, loader.ErrGaveUp) || !strings.Contains(r.err.Error(), "SQLSTATE "+test.code) {
					t.Errorf("got %v, want to give up with %s", r.err, test.code)
				}
				release()

				ends := &loadertest.Fault{Do: loadertest.Delay, When: loadertest.Match{
					From: loadertest.Backend, Kind: loadertest.MsgErrorResponse, SQL: "FOR UPDATE",
				}}
				proxy := loadertest.NewProxy(t, url+test.param, ends)
				o.RetryFor = time.Minute
				r = begin(t, proxy.URL(), l, o)
				r.more(t, 5)
				release = lock()
				loadertest.Eventually(t, "an attempt that the server ended", ends.Fired)
				release()
				r.more(t, 5)
				if res := r.end(t); res.Retries == 0 {
					t.Error("no retry was counted")
				}
				checkBank(t, url, l)
			})
		})
	}
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
			r := begin(t, url, l, bank.Options{RetryFor: time.Minute})
			r.more(t, 50)
			if err := db.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := db.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			r.more(t, 50)
			res := r.end(t)
			t.Logf("%d retries, %d look-ups", res.Retries, res.LookUps)
			if res.Retries == 0 {
				t.Error("the server went away and no retry was counted")
			}
			checkBank(t, url, l)
		})
	}
}
