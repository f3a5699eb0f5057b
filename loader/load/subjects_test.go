package load_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A subject is what the suites of faults load: one kind of rows, committed and carried
// one way.
type subject struct {
	kind  string
	table string
	ddl   string
	load.Settings
	// begin enters a load of n rows in the registry, over proxied; direct is the
	// same database without faults.
	begin func(t testing.TB, proxied, direct string, n int64, set load.Settings) *load.Load
	// want is what a complete load of n rows has put into the table.
	want func(t testing.TB, direct string, l *load.Load, n int64) content
	bad  int64 // one in so many records of its file is no row; zero is none
}

// exact fails the test unless the n rows, and no others, are there, once: the standard
// check.
func (s subject) exact(t testing.TB, direct string, l *load.Load, n int64, others ...*load.Load) {
	t.Helper()
	want := s.want(t, direct, l, n)
	for _, o := range others { // of as many rows, in the same table
		want = want.join(s.want(t, direct, o, n))
	}
	checkLoad(t, direct, l, n, want)
	s.checkRejects(t, direct, l, n)
	if s.Method == load.Import {
		checkOneJob(t, direct, l)
	}
}

func (s subject) String() string { return s.kind + "/" + name(s.Settings) }

// Commits matches the message with which a chunk of the subject becomes durable.
func (s subject) commits(srv loadertest.Server) loadertest.Match { return commitOf(srv, s.Settings) }

// subjects returns what can be loaded into a server. Another kind of load is another
// entry here.
func subjects(srv loadertest.Server) []subject {
	var list []subject
	for _, set := range ways(srv) {
		list = append(list, subject{"points", "points", pointsDDL, set, generated(points), wantGenerated, 0})
	}
	for _, via := range []commit.Method{commit.Insert, commit.Copy} {
		list = append(list, subject{"accounts", "accounts", accountsDDL, load.Settings{CommitMode: commit.Transaction, Method: via}, generated(accounts), wantGenerated, 0})
	}
	// A table without any key: only the ledger keeps a row from coming twice.
	for _, via := range []commit.Method{commit.Insert, commit.Copy} {
		list = append(list, fileSubject("keyless", keylessDDL, commit.Transaction, via, 0))
	}
	// Files that bring the key, and files of which some records are no rows.
	list = append(list, fileSubject("file", fileDDL, commit.Statement, commit.Insert, 0))
	if srv.Product == server.PostgreSQL {
		return append(list,
			fileSubject("file", fileDDL, commit.Statement, commit.Copy, 0),
			fileSubject("rejects", keylessDDL, commit.Transaction, commit.Copy, badEach))
	}
	return append(list, fileSubject("rejects", keylessDDL, commit.Transaction, commit.Insert, badEach))
}

// The tables, for both servers.
const (
	pointsDDL   = "CREATE TABLE IF NOT EXISTS points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)"
	accountsDDL = "CREATE TABLE IF NOT EXISTS accounts (id INT8 PRIMARY KEY, balance INT8)"
	keylessDDL  = "CREATE TABLE IF NOT EXISTS points (id INT8, s TEXT)"
	fileDDL     = "CREATE TABLE IF NOT EXISTS points (id INT8 PRIMARY KEY, s TEXT)"
)

// count returns how many rows the table has.
func (s subject) count(t testing.TB, url string) int64 {
	t.Helper()
	return loadertest.Value[int64](t, url, "SELECT count(*) FROM "+s.table)
}

// points and accounts make the datasets of generated rows.
func points(n int64, seed uint64) dataset.Dataset   { return dataset.NewPoints(n, seed) }
func accounts(n int64, seed uint64) dataset.Dataset { return dataset.NewAccounts(n, seed) }

func generated(of func(int64, uint64) dataset.Dataset) func(testing.TB, string, string, int64, load.Settings) *load.Load {
	return func(t testing.TB, proxied, _ string, n int64, set load.Settings) *load.Load {
		return newLoad(t, proxied, load.Request{Dataset: of(n, 11), Settings: set})
	}
}

func wantGenerated(t testing.TB, direct string, l *load.Load, n int64) content {
	t.Helper()
	if l.Dataset.Size().Rows != n {
		t.Errorf("the load has %d rows, want %d", l.Dataset.Size().Rows, n)
	}
	return generatedBy(t, direct, l)
}

// badEach is one of how many records of a file with rejects is no row.
const badEach = 90

// fileSubject returns a subject whose rows come from a file, in which there is a record
// that is no row, beside the others, for every so many of them, or none if bad is zero.
func fileSubject(kind, ddl string, way commit.Mode, via commit.Method, bad int64) subject {
	begin := func(t testing.TB, proxied, direct string, n int64, set load.Settings) *load.Load {
		loadertest.Exec(t, direct, ddl)
		var text strings.Builder
		for i := range n {
			text.WriteString(badBefore(i, bad))
			fmt.Fprintf(&text, "%d,\"a\n%d\"\n", i, i)
		}
		req := fileRequest("points", write(t, "x.csv", text.String()))
		req.Settings, filesOf(req).Columns = set, []string{"id", "s"}
		if bad > 0 {
			filesOf(req).MaxErrors.Records = n
		}
		return newLoad(t, proxied, req)
	}
	want := func(_ testing.TB, _ string, _ *load.Load, n int64) content {
		return content{[]string{"id", "s"}, func(yield func(int64, []any) bool) {
			for i := range n {
				if !yield(i, []any{fmt.Sprintf("a\n%d", i)}) {
					return
				}
			}
		}}
	}
	return subject{kind, "points", ddl, load.Settings{CommitMode: way, Method: via}, begin, want, bad}
}

// checkRejects fails the test unless the records that are no rows are set aside, each once
// and as it was.
func (s subject) checkRejects(t testing.TB, url string, l *load.Load, n int64) {
	t.Helper()
	if s.bad == 0 {
		return
	}
	var want strings.Builder
	for i := range n {
		want.WriteString(badBefore(i, s.bad))
	}
	got := loadertest.Value[string](t, url, "SELECT COALESCE(string_agg(convert_from(record, 'UTF8'), '' ORDER BY position), '') FROM loader.rejects WHERE load = $1", l.ID)
	if got != want.String() {
		t.Errorf("the rejects are %q, want %q", got, want.String())
	}
}

// badBefore returns what fileSubject puts before record i that is no row, if anything.
func badBefore(i, bad int64) string {
	if bad > 0 && i%bad == 7 {
		return fmt.Sprintf("%dx,bad\n", i)
	}
	return ""
}

// few leaves one subject for each way to commit, and none that another stands for: the
// rest is for -tags chaos, where all are taken.
func few(list []subject) []subject {
	keep := []string{"points/statement/insert", "keyless/transaction/copy"}
	if !slices.ContainsFunc(list, func(s subject) bool { return s.String() == "points/statement/copy" }) {
		keep[1] = "keyless/transaction/insert" // what CockroachDB is loaded with by default
	}
	return slices.DeleteFunc(list, func(s subject) bool { return !slices.Contains(keep, s.String()) })
}

// among reports whether few leaves the subject.
func (s subject) among(srv loadertest.Server) bool {
	return slices.ContainsFunc(few(subjects(srv)), func(x subject) bool { return x.String() == s.String() })
}

// clearTables empties a test's database of the tables and the record of the test before.
// That is faster than another database, whose registry is made anew.
func clearTables(t testing.TB, url string) {
	t.Helper()
	statements := []string{"DROP TABLE IF EXISTS points", "DROP TABLE IF EXISTS accounts"}
	if loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'loader' AND tablename = 'tuning')") {
		for _, table := range []string{"loads", "claims", "ledger", "moved", "indexes", "rejects", "tuning"} {
			statements = append(statements, "DELETE FROM loader."+table)
		}
	}
	loadertest.Exec(t, url, statements...)
}

// eachSubject runs f for everything that can be loaded into either server, each in an
// empty database, and fails what leaves goroutines, files or sessions behind.
func eachSubject(t *testing.T, f func(t *testing.T, srv loadertest.Server, url string, sub subject)) {
	t.Helper()
	eachOf(t, all, f)
}

// all holds for every subject.
func all(subject) bool { return true }

// inChunks holds for subjects of which a chunk is always as many rows as it has records.
func inChunks(s subject) bool { return s.bad == 0 }

// inTransactions holds for subjects of the transaction way.
func inTransactions(s subject) bool { return s.CommitMode == commit.Transaction }

// shortOf leaves the subject that has the most to lose where waiting is the test, and one
// more with the tag chaos.
func shortOf(s subject) bool {
	return s.kind == "keyless" || loadertest.Chaos && s.CommitMode == commit.Statement && s.Method == commit.Insert
}

// keyed holds for subjects whose keys are known before the rows are there.
func keyed(s subject) bool { return s.kind == "points" }

// eachOf is eachSubject for those that which holds for.
func eachOf(t *testing.T, which func(subject) bool, f func(t *testing.T, srv loadertest.Server, url string, sub subject)) {
	t.Helper()
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		list := subjects(srv)
		if !loadertest.Chaos {
			list = few(list)
		}
		eachIn(t, srv, list, which, f)
	})
}

// eachIn runs f for those of a list that which holds for, on one server.
func eachIn(t *testing.T, srv loadertest.Server, list []subject, which func(subject) bool, f func(t *testing.T, srv loadertest.Server, url string, sub subject)) {
	t.Helper()
	url := srv.NewDatabase(t)
	for _, sub := range list {
		if !which(sub) {
			continue
		}
		t.Run(sub.String(), func(t *testing.T) {
			loadertest.CheckNoLeaks(t)
			clearTables(t, url)
			f(t, srv, url, sub)
		})
	}
}

// resume runs a load again, without faults and to its end.
func resume(t testing.TB, url string, l *load.Load, set load.Settings) loader.Result {
	t.Helper()
	set.RetryFor, set.Chunk, set.Stop, set.Observe, set.Input = time.Minute, 0, nil, nil, files.NewInput(nil)
	again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, set)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	res, err := again.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A trial is a subject on its way: a load that is entered, and a proxy whose faults
// are armed.
type trial struct {
	*load.Load
	proxy *loadertest.Proxy // nil without
	done  chan struct{}     // closed when Run has returned
	res   loader.Result
	err   error
}

// start begins a load of n rows behind a proxy, arms the faults and runs it beside the
// test.
func (s subject) start(t testing.TB, url string, n int64, faults ...*loadertest.Fault) *trial {
	t.Helper()
	proxy := loadertest.NewProxy(t, url)
	x := s.enter(t, proxy.URL(), url, n)
	x.proxy = proxy
	t.Cleanup(proxy.CloseAll) // before the load is closed, which would wait for silent connections
	proxy.Add(faults...)
	x.run(t)
	t.Cleanup(proxy.CloseAll) // and before its end is waited for, where the test has failed
	return x
}

// startDirect is start without a proxy, for faults of the server itself.
func (s subject) startDirect(t testing.TB, url string, n int64) *trial {
	t.Helper()
	x := s.enter(t, url, url, n)
	x.run(t)
	return x
}

func (s subject) enter(t testing.TB, proxied, direct string, n int64) *trial {
	t.Helper()
	if s.Chunk == 0 && s.Method != load.Import {
		s.Chunk = 100
	}
	if s.RetryFor == 0 {
		s.RetryFor = time.Minute
	}
	return &trial{Load: s.begin(t, proxied, direct, n, s.Settings), done: make(chan struct{})}
}

func (x *trial) run(t testing.TB) {
	go func() {
		defer close(x.done)
		x.res, x.err = x.Run(context.Background())
	}()
	t.Cleanup(func() { <-x.done })
}

// wait returns what the run of the trial returned.
func (x *trial) wait() (loader.Result, error) {
	<-x.done
	return x.res, x.err
}

// running reports whether the trial's run goes on.
func (x *trial) running() bool {
	select {
	case <-x.done:
		return false
	default:
		return true
	}
}

// mustEnd waits for the trial, which must end well.
func (x *trial) mustEnd(t testing.TB) loader.Result {
	t.Helper()
	res, err := x.wait()
	if err != nil {
		t.Fatal(err)
	}
	return res
}
