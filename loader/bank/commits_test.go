package bank_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/loadertest"
)

// theMove matches the message with which a transfer's money moves, before its commit.
var theMove = loadertest.Match{SQL: `^UPDATE .*accounts`, Kind: loadertest.MsgStatement}

// ambiguous are the faults after which a client does not know what has become of its
// transfer.
func ambiguous(s loadertest.Server) map[string]*loadertest.Fault {
	return map[string]*loadertest.Fault{
		"reply swallowed":    {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.SwallowReply},
		"40003 after commit": {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "40003"},
		"40003, rolled back": {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.Inject, Code: "40003"},
		"cut after commit":   {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.CutAfter},
		"server ends it":     {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.InjectAfter, Code: "57P01"},
		"reset before it":    {When: theMove, Nth: 2, Times: 5, Do: loadertest.Cut, Reset: true},
		"reset at commit":    {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.Cut, Reset: true},
		"reset within it":    {When: commitOf(s), Nth: 2, Times: 5, Do: loadertest.CutMiddle, Reset: true},
	}
}

func TestAmbiguousCommits(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for name, fault := range ambiguous(s) {
			t.Run(name, func(t *testing.T) {
				usual := []string{"reply swallowed", "reset at commit"}
				if !s.Cockroach {
					usual = append(usual, "40003, rolled back", "reset before it")
				}
				if !slices.Contains(usual, name) {
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
		l, res, err := broken(t, url, 40, bank.Options{Workers: 2, SkipVerification: true}, fill(t, url, 10, 1000), fault)
		if err != nil || res.After.Balance != "10000" {
			t.Fatalf("%+v, %v", res, err)
		}
		d, err := loadertest.CompareTable(url, accountsTable, l.rows())
		if err != nil || d.OK() {
			t.Errorf("%v, %v: want balances that differ", d, err)
		}
	})
}

// TestCommitIsAnsweredByRollback has transactions rolled back without an error: only the
// tag that answers COMMIT tells, and the transfers are made again. On CockroachDB what
// answers COMMIT says nothing, for the savepoint's release was the commit.
func TestCommitIsAnsweredByRollback(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	fault := &loadertest.Fault{When: loadertest.Match{SQL: "^COMMIT", Kind: loadertest.MsgBind}, Nth: 3, Times: 4, Do: loadertest.RollBack}
	l, res, err := broken(t, url, 40, bank.Options{Workers: 2}, fill(t, url, 10, 1000), fault)
	if err != nil {
		t.Fatal(err)
	}
	if fault.Count() != 4 || res.Retries < 4 {
		t.Errorf("%d transactions were rolled back, and %d retries counted", fault.Count(), res.Retries)
	}
	checkBank(t, url, l)
}

// TestCountThatDiffers has the server's reply to the move of a transfer name fewer
// accounts than two, and more, though it changed both: the transfer is rolled back, and
// the run is not confirmed.
func TestCountThatDiffers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		all := &ledger{accounts: fill(t, url, 10, 1000)}
		for changed, less := range map[int]int{1: 1, 3: -1} {
			fault := &loadertest.Fault{When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete, SQL: theMove.SQL}, Nth: 3, Do: loadertest.Recount, Less: less}
			l, _, err := broken(t, url, 40, bank.Options{Workers: 1}, all.accounts, fault)
			checkUnconfirmed(t, err, changed)
			if len(l.made) != 2 {
				t.Errorf("%d transfers were confirmed, want those before the third", len(l.made))
			}
			all.follow(l)
		}
		checkBank(t, url, all)
	})
}

// TestAccountThatDoesNotChange has a trigger leave one account as it is without a word.
func TestAccountThatDoesNotChange(t *testing.T) {
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	accounts := fill(t, url, 2, 1000)
	loadertest.Exec(t, url, "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
		"CREATE TRIGGER keep BEFORE UPDATE ON accounts FOR EACH ROW WHEN (OLD.id = 20) EXECUTE FUNCTION keep()")
	l, _, err := broken(t, url, 1, bank.Options{}, accounts)
	checkUnconfirmed(t, err, 1)
	checkBank(t, url, l)
}

// checkUnconfirmed checks the error of a run in which the server named another number of
// accounts than two.
func checkUnconfirmed(t *testing.T, err error, changed int) {
	t.Helper()
	want := fmt.Sprintf("the server changed %d of 2 accounts, and the transfer was rolled back", changed)
	if !errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want ErrUnconfirmed and %q", err, want)
	}
}

// TestTransferArrivesTwice has commits delivered once more when everything is over, and
// on PostgreSQL the money's move with its note, which then are a transaction of their own:
// the history's key keeps them from being made twice.
func TestTransferArrivesTwice(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		what := map[string]loadertest.Match{"commit": commitOf(s)}
		if !s.Cockroach { // until 22.2 each statement of a pipeline was a transaction there
			what["move"] = theMove
		}
		for name, when := range what {
			t.Run(name, func(t *testing.T) {
				url := s.NewDatabase(t)
				twice := &loadertest.Fault{When: when, Nth: 2, Times: 3, Do: loadertest.Duplicate}
				l := &ledger{accounts: fill(t, url, 10, 1000)}
				proxy := loadertest.NewProxy(t, url, twice)
				b := open(t, proxy.URL(), bank.Options{Workers: 2, Observe: l.observe})
				if _, err := b.Run(t.Context(), 20); err != nil {
					t.Fatal(err)
				}
				// What commits again has nothing to commit.
				want := map[string][]string{"move": {"UPDATE 2", "ERROR 23505"}, "commit": {"COMMIT"}}[name]
				got := twice.Release()
				if s.Cockroach { // there is no savepoint, which some newer versions do not mind
					want = []string{"ERROR XXUUU"}
					if len(got) > 0 && slices.Contains([]string{"RELEASE", "ERROR 3B001"}, got[0]) {
						want = got[:1]
					}
				}
				if !slices.Equal(got, slices.Repeat(want, 3)) {
					t.Errorf("what came again was answered by %q, want %q each time", got, want)
				}
				b.Close()
				checkBank(t, url, l)
			})
		}
	})
}

// TestTransferCutAtEachMessage cuts a run at the client's first message, then at its
// second, and so on, until a run ends without meeting the cut, and each run at one of the
// server's, too. How it is cut is drawn, so that no kind of message is always cut in the
// same way.
func TestTransferCutAtEachMessage(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		step, least := 11, 10
		if loadertest.Chaos {
			step, least = 1, 120
		}
		seed := rand.Uint64()
		draw := rand.New(rand.NewPCG(seed, 0))
		url := s.NewDatabase(t)
		all := &ledger{accounts: fill(t, url, 6, 1<<40)}
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutMiddle, loadertest.CutAfter}
		theirs := draw.Perm(120) // a run has some more messages of the server
		cuts, n := 0, 1+draw.IntN(step)
		for fired := true; fired; n += step {
			ours, their := &loadertest.Fault{Nth: n}, &loadertest.Fault{Nth: 1 + theirs[n%len(theirs)], When: loadertest.Match{From: loadertest.Backend}}
			for _, f := range []*loadertest.Fault{ours, their} {
				f.Do, f.Reset = actions[draw.IntN(len(actions))], draw.IntN(2) == 0
			}
			l, _, err := broken(t, url, 2, bank.Options{Workers: 1, Seed: uint64(n)}, all.accounts, ours, their)
			if err != nil {
				t.Fatalf("seed %d: %v at message %d, %v at the server's message %d: %v", seed, ours.Do, ours.Nth, their.Do, their.Nth, err)
			}
			all.follow(l)
			fired = ours.Fired()
			cuts += ours.Count() + their.Count()
		}
		t.Logf("seed %d: %d cuts; no message %d is left", seed, cuts, n-step)
		if cuts < least {
			t.Errorf("%d cuts, want %d at least", cuts, least)
		}
		checkBank(t, url, all)
	})
}
