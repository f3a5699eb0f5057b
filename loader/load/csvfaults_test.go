package load_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// csvWays are the ways of files: into a table that no key protects, with bad records,
// and by the statement way.
func csvWays(s loadertest.Server) []load.Settings {
	list := []load.Settings{{Way: commit.Transaction, Via: commit.Insert}, {Way: commit.Statement, Via: commit.Insert}}
	if s.Product == server.PostgreSQL {
		list = append(list, load.Settings{Way: commit.Transaction, Via: commit.Copy}, load.Settings{Way: commit.Statement, Via: commit.Copy})
	}
	return list
}

// runCSV loads n records, one in 90 of them bad where the way allows it, through a
// proxy with faults, and checks the table and the rejects.
func runCSV(t *testing.T, url string, n int, set load.Settings, faults ...*loadertest.Fault) error {
	t.Helper()
	keyed := set.Way == commit.Statement
	ddl := "CREATE TABLE points (id INT8, s TEXT)"
	if keyed {
		ddl = "CREATE TABLE points (id INT8 PRIMARY KEY, s TEXT)"
	}
	loadertest.Exec(t, url, "DROP TABLE IF EXISTS points", ddl)
	var text strings.Builder
	var want []string
	rejects := int64(0)
	for i := range n {
		if i%90 == 7 && !keyed {
			fmt.Fprintf(&text, "%dx,bad\n", i)
			rejects++
			continue
		}
		fmt.Fprintf(&text, "%d,\"a\n%d\"\n", i, i)
		id, s := fmt.Sprint(i), fmt.Sprintf("a\n%d", i)
		want = append(want, show([]*string{&id, &s}))
	}
	proxy := loadertest.NewProxy(t, url)
	req := files("points", write(t, "x.csv", text.String()))
	req.Settings = set
	req.RetryFor = 20 * time.Second
	req.Files.Columns = []string{"id", "s"}
	req.Files.MaxErrors.Records = rejects
	l := newLoad(t, proxy.URL(), req)
	proxy.Add(faults...)
	res, err := l.Run(context.Background())
	l.Close()
	if err != nil {
		return err
	}
	got := table(t, url, "SELECT id::TEXT, s FROM points")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the table has %d rows, want %d", len(got), len(want))
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.rejects WHERE load = $1", l.ID); n != rejects {
		t.Errorf("%d rejects are recorded, want %d (this run says %d)", n, rejects, res.Rejected)
	}
	for _, table := range []string{"claims", "ledger"} {
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader."+table); n != 0 {
			t.Errorf("%d rows are left in loader.%s after a complete load", n, table)
		}
	}
	return nil
}

func eachCSVWay(t *testing.T, f func(t *testing.T, s loadertest.Server, url string, set load.Settings)) {
	t.Helper()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, set := range csvWays(s) {
			t.Run(name(set), func(t *testing.T) {
				loadertest.CheckNoLeaks(t)
				clearTables(t, url)
				f(t, s, url, set)
			})
		}
	})
}

func TestCSVSwallowedReplies(t *testing.T) {
	eachCSVWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		if s.Cockroach {
			loadertest.Long(t)
		}
		set.Chunk = 100
		fault := &loadertest.Fault{When: commitOf(s, set), Nth: 2, Times: 3, Do: loadertest.SwallowReply}
		if err := runCSV(t, url, 1500, set, fault); err != nil {
			t.Fatal(err)
		}
		if !fault.Fired() {
			t.Error("the fault did not fire")
		}
	})
}

func TestCSVCutAtEachMessage(t *testing.T) {
	loadertest.Long(t)
	eachCSVWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		set.Chunk, set.Workers = 100, 1
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter}
		for n := 1; ; n++ {
			fault := &loadertest.Fault{Nth: n, Do: actions[n%2]}
			if err := runCSV(t, url, 200, set, fault); err != nil || t.Failed() {
				t.Fatalf("cut at message %d: %v", n, err)
			}
			if !fault.Fired() {
				t.Logf("no message %d is left to cut at", n)
				return
			}
		}
	})
}

// TestCSVTooLargeIsHalved has the server refuse chunks, and the files' spans cut again.
func TestCSVTooLargeIsHalved(t *testing.T) {
	eachCSVWay(t, func(t *testing.T, s loadertest.Server, url string, set load.Settings) {
		if s.Cockroach {
			loadertest.Long(t)
		}
		set.Chunk = 400
		fault := &loadertest.Fault{When: loadertest.Match{SQL: `(INSERT INTO|COPY) .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "53400", Times: 2}
		if err := runCSV(t, url, 2000, set, fault); err != nil {
			t.Fatal(err)
		}
		if fault.Count() != 2 {
			t.Errorf("the fault fired %d times", fault.Count())
		}
	})
}
