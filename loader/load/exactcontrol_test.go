package load_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// A recorder takes down what a check says.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatal(args ...any) {
	r.said = append(r.said, fmt.Sprint(args...))
	runtime.Goexit()
}

// saidBy returns what a check says.
func saidBy(t testing.TB, check func(testing.TB)) string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	return strings.Join(r.said, "\n")
}

// TestTheStandardCheckCanFail is the control of all suites: what a load must not leave is
// left, and the standard check says so.
func TestTheStandardCheckCanFail(t *testing.T) {
	loadertest.Slow(t)
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		eachIn(t, srv, subjects(srv), func(s subject) bool { return s.Method == commit.Copy && s.CommitMode == commit.Transaction }, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
			const n = 300
			x := sub.startDirect(t, url, n)
			x.mustEnd(t)
			other := map[string]string{"points": "y = -1", "accounts": "balance = -1"}[sub.kind]
			if other == "" {
				other = "s = NULL"
			}
			one := fmt.Sprintf("WHERE id = (SELECT max(id) FROM %s)", sub.table)
			// What a further run finds to do, it does; that is undone, too.
			for _, test := range []struct{ what, do, undo, want string }{
				{"other content", fmt.Sprintf("UPDATE %s SET %s %s", sub.table, other, one), "", "1 wrong"},
				{"another key", fmt.Sprintf("UPDATE %s SET id = -1 %s", sub.table, one), "", "1 missing, 0 twice, 1 foreign"},
				{"a row less", fmt.Sprintf("DELETE FROM %s %s", sub.table, one), "", "1 missing"},
				{"a row more", fmt.Sprintf("INSERT INTO %s SELECT * FROM kept %s", sub.table, one), "", "1 twice"},
				{"a gap", "UPDATE loader.loads SET done = '0-5,6-' || positions", "UPDATE loader.loads SET done = '0-' || positions; DELETE FROM loader.moved; DELETE FROM loader.rejects WHERE position = 5", "the registry has the load as"},
				{"a load that is not done", "UPDATE loader.loads SET state = 'loading'", "UPDATE loader.loads SET state = 'done'", "the load is not complete"},
				{"a claim", "INSERT INTO loader.claims (load, lo, hi, run) SELECT id, 0, 5, 'x' FROM loader.loads", "DELETE FROM loader.claims", "1 claims and 0"},
				{"a ledger row", "INSERT INTO loader.ledger (load, lo, hi) SELECT id, 0, 5 FROM loader.loads", "DELETE FROM loader.ledger", "0 claims and 1 ledger rows"},
			} {
				if test.what == "a row more" && sub.ddl != keylessDDL {
					continue // the key does not allow it
				}
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT * FROM "+sub.table, test.do)
				was := lastWrite(t, url, x.Table.Name)
				said := saidBy(t, func(t testing.TB) { sub.exact(t, url, x.Load, n) })
				if !strings.Contains(said, test.want) {
					t.Errorf("%s: the check says %q, want %q in it", test.what, said, test.want)
				}
				loadertest.Exec(t, url, "DELETE FROM "+sub.table, fmt.Sprintf("INSERT INTO %s SELECT * FROM kept", sub.table))
				for undo := range strings.SplitSeq(test.undo, ";") {
					loadertest.Exec(t, url, undo)
				}
				if now := lastWrite(t, url, x.Table.Name); now == was {
					t.Errorf("%s: the rows were written again, and the last write is still %s", test.what, now)
				}
			}
			sub.exact(t, url, x.Load, n)
		})
	})
}
