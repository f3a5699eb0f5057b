package load_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// TestCountThatDiffers has the server's reply to the rows of a chunk name fewer than were
// sent, though it took them all. A transaction is rolled back, and the load is not
// confirmed; a statement is looked up, and is well.
func TestCountThatDiffers(t *testing.T) {
	eachOf(t, inChunks, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		fault := &loadertest.Fault{
			When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete, SQL: rowsOf},
			Nth:  3, Times: 2, Do: loadertest.Recount, Less: 7, // text that goes as it is, is parsed and sent again
		}
		sub.Workers = 1 // what is sent again is the same chunk
		x := sub.start(t, url, 1000, fault)
		res, err := x.wait()
		if !fault.Fired() {
			t.Fatal("no count was changed")
		}
		if sub.CommitMode == commit.Statement {
			if err != nil || res.LookUps == 0 {
				t.Fatalf("got %d look-ups, %v; want the rows looked up and found", res.LookUps, err)
			}
			sub.exact(t, url, x.Load, 1000)
			return
		}
		if !errors.Is(err, loader.ErrUnconfirmed) {
			t.Errorf("got %v, want ErrUnconfirmed", err)
		}
		if n := sub.count(t, url); n%100 != 0 || n >= 1000 {
			t.Errorf("%d rows are in; want whole chunks, and not that one", n)
		}
		x.proxy.Heal()
		x.Close()
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, 1000)
	})
}

// TestCommitIsAnsweredByRollback has transactions rolled back without an error: only the
// tag that answers COMMIT tells, and the chunks are sent again.
func TestCommitIsAnsweredByRollback(t *testing.T) {
	postgresSubjects(t, inTransactions, func(t *testing.T, url string, sub subject) {
		fault := &loadertest.Fault{When: loadertest.Match{SQL: "^COMMIT", Kind: loadertest.MsgQuery}, Nth: 3, Times: 4, Do: loadertest.RollBack}
		x := sub.start(t, url, 1000, fault)
		if res := x.mustEnd(t); !fault.Fired() || res.Retries == 0 {
			t.Errorf("%d transactions were rolled back, and %d retries counted", fault.Count(), res.Retries)
		}
		sub.exact(t, url, x.Load, 1000)
	})
}

// TestRowsThatVanish has a trigger drop rows without a word: no way takes that for
// success, and the load goes on when the trigger is gone.
func TestRowsThatVanish(t *testing.T) {
	postgresSubjects(t, withTriggers, func(t *testing.T, url string, sub subject) {
		loadertest.Exec(t, url, `CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.id % 10 = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$`,
			fmt.Sprintf("CREATE TRIGGER drop_some BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION drop_some()", sub.table))
		sub.RetryFor = 10 * time.Second
		x := sub.start(t, url, 1000)
		if _, err := x.wait(); !errors.Is(err, loader.ErrUnconfirmed) {
			t.Errorf("got %v, want ErrUnconfirmed", err)
		}
		if n := sub.count(t, url); sub.CommitMode == commit.Transaction && n != 0 {
			t.Errorf("%d rows are in, of chunks that were not whole", n)
		}
		loadertest.Exec(t, url, "DROP TRIGGER drop_some ON "+sub.table)
		x.Close()
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, 1000)
	})
}
