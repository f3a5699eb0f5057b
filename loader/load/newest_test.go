package load_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A notebook keeps what a load tells the user.
type notebook struct {
	mu    sync.Mutex
	lines []string
}

func (n *notebook) note(s string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, s)
}

func (n *notebook) observe(e loader.Event) {
	if e.Note != "" {
		n.note(e.Note)
	}
}

func (n *notebook) has(part string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(strings.Join(n.lines, "\n"), part)
}

// TestLicenceThrottle has the server refuse transactions as one without a valid licence does,
// which lets five be open: the load goes on with fewer workers, and says why. Another refusal
// of that SQLSTATE ends it.
func TestLicenceThrottle(t *testing.T) {
	loadertest.Slow(t)
	const throttle = "No license installed. The maximum number of concurrently open transactions has been reached."
	srv := loadertest.CockroachServer(t)
	for _, set := range ways(srv) {
		t.Run(name(set), func(t *testing.T) {
			url := srv.NewDatabase(t)
			var told notebook
			set.Workers, set.Note, set.Observe = 8, told.note, told.observe
			refuse := &loadertest.Fault{When: loadertest.Match{SQL: `^(INSERT INTO|COPY) .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "XXC02", Text: throttle, Times: 3}
			l, res, err := run(t, url, 5000, set, refuse)
			if err != nil {
				t.Fatal(err)
			}
			if res.Workers > 4 || res.Retries < 3 || !told.has("licence limits open transactions") || !told.has("No license installed") {
				t.Errorf("got %d workers, %d retries, notes %q", res.Workers, res.Retries, told.lines)
			}
			checkExact(t, url, l, 5000)
		})
	}
	refuse := &loadertest.Fault{When: loadertest.Match{SQL: `^INSERT INTO .*points`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "XXC02", Text: "use of this feature requires an enterprise license"}
	if _, _, err := run(t, srv.NewDatabase(t), 1000, load.Settings{CommitMode: commit.Statement, Method: commit.Insert}, refuse); err == nil || !strings.Contains(err.Error(), "enterprise license") {
		t.Errorf("got %v, want the refusal", err)
	}
}

// withOption adds a setting that the sessions of a URL begin with.
func withOption(url, name, value string) string {
	return url + "&options=-c%20" + name + "%3D" + value
}

// TestIsolationBuffersNoWrites isolates bad rows on a server whose sessions buffer writes,
// which may lose those before a savepoint: they are not buffered there.
func TestIsolationBuffersNoWrites(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.NewestCockroachServer(t)
	direct := srv.NewDatabase(t)
	loadertest.Exec(t, direct, "CREATE TABLE u (id INT8 PRIMARY KEY, v INT8 CHECK (v > 0))", "INSERT INTO u VALUES (50, 1), (150, 1)")
	off := &loadertest.Fault{When: loadertest.Match{SQL: `^SET kv_transaction_buffered_writes_enabled = off`, Kind: loadertest.MsgStatement}, Do: loadertest.Delay}
	proxy := loadertest.NewProxy(t, withOption(direct, "kv_transaction_buffered_writes_enabled", "on"), off)
	var text strings.Builder
	for i := range 1000 {
		v := 1
		if i%97 == 5 {
			v = -1
		}
		fmt.Fprintf(&text, "%d,%d\n", i, v)
	}
	req := fileRequest("u", write(t, "u.csv", text.String()))
	req.Chunk = 200
	filesOf(req).MaxErrors.Records = 100
	l := newLoad(t, proxy.URL(), req)
	res, err := l.Run(context.Background())
	const bad = 11 + 2
	if err != nil || res.Rejected != bad || res.Rows != 1000-bad {
		t.Errorf("got %d rows, %d rejected, %v", res.Rows, res.Rejected, err)
	}
	if n := loadertest.Value[int64](t, direct, "SELECT count(*) FROM u"); n != 1000-bad+2 {
		t.Errorf("the table has %d rows", n)
	}
	if n := loadertest.Value[int64](t, direct, "SELECT count(*) FROM loader.rejects"); n != bad {
		t.Errorf("%d rejects are recorded", n)
	}
	if !off.Fired() {
		t.Error("writes are buffered where savepoints follow")
	}
}

// TestInsertsBufferNoWrites loads by transactions on a server whose sessions buffer writes, which
// costs most of the rate.
func TestInsertsBufferNoWrites(t *testing.T) {
	srv := loadertest.NewestCockroachServer(t)
	off := &loadertest.Fault{When: loadertest.Match{SQL: `^SET kv_transaction_buffered_writes_enabled = off`, Kind: loadertest.MsgStatement}, Times: 100, Do: loadertest.Delay}
	set := load.Settings{CommitMode: commit.Transaction, Method: commit.Insert, Chunk: 100, Workers: 1}
	if _, _, err := run(t, srv.NewDatabase(t), 1000, set, off); err != nil {
		t.Fatal(err)
	}
	if n := off.Count(); n < 1 || n > 5 {
		t.Errorf("buffering was turned off %d times for 10 chunks, want once a session", n)
	}
}

// injected counts the errors that CockroachDB injects where a session's setting says so.
func injected() *loadertest.Fault {
	ours := func(m *loadertest.Message) bool { return bytes.Contains(m.Body, []byte("injected by `inject_retry")) }
	return &loadertest.Fault{When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgErrorResponse, Func: ours}, Times: -1, Do: loadertest.Delay}
}

// TestRetriesThatTheServerInjects has the server itself ask for transactions again: three times
// for each of a load, those of the registry too, or for those of chunks alone. It does not at the
// RELEASE by which all of them commit: inject_retry_errors_on_commit_enabled meets COMMIT alone.
func TestRetriesThatTheServerInjects(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.NewestCockroachServer(t)
	list := subjects(srv)
	if !loadertest.Chaos {
		list = few(list)
	}
	const n, chunk = 1500, 500
	eachIn(t, srv, list, all, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		chunks := int64(n / chunk)
		if sub.CommitMode == commit.Statement {
			chunks = 0 // the server itself repeats a statement that is a transaction
		}
		sub.Chunk, sub.Workers = chunk, 2
		for _, x := range []struct {
			setting string // of all sessions
			faults  []*loadertest.Fault
			errors  int64
		}{
			{"inject_retry_errors_enabled", nil, 3 * chunks},
			{"inject_retry_errors_on_commit_enabled", nil, 0},
			{"", []*loadertest.Fault{{When: ledgerRows, Times: -1, Do: loadertest.Precede, Text: injectRetry}}, 3 * chunks},
		} {
			clearTables(t, url)
			through, count := url, injected()
			if x.setting != "" {
				through = withOption(url, x.setting, "on")
			}
			proxy := loadertest.NewProxy(t, through, append(x.faults, count)...)
			l := sub.begin(t, proxy.URL(), url, n, sub.Settings)
			res, err := l.Run(context.Background())
			if err != nil {
				t.Fatalf("%s: %v", x.setting, err)
			}
			t.Logf("%q: %d errors, %d retries", x.setting, count.Count(), res.Retries)
			if res.Retries < x.errors || int64(count.Count()) < x.errors {
				t.Errorf("%q: %d errors, %d retries, want %d of each at least", x.setting, count.Count(), res.Retries, x.errors)
			}
			proxy.CloseAll()
			l.Close()
			sub.exact(t, url, l, n)
		}
	})
}

// TestReadCommitted has that isolation as the default, in which the protocol would not hold. It
// loads by every way, and files whose records meet rows of others or replace all of them.
func TestReadCommitted(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.NewestCockroachServer(t)
	direct := srv.NewDatabase(t)
	url := withOption(direct, "default_transaction_isolation", `read%5C%20committed`)
	isolation := func(url string) string {
		return loadertest.Value[string](t, url, "SHOW transaction_isolation")
	}
	if got := isolation(url); got != "read committed" {
		t.Fatalf("the default is %s, want read committed", got)
	}
	pool, err := loadertest.Open(t, url).Pool(t.Context(), server.Sessions{Name: "loader isolation", Max: 1})
	if err != nil {
		t.Fatal(err)
	}
	var got string
	err = pool.QueryRow(t.Context(), "SHOW transaction_isolation").Scan(&got)
	server.ClosePool(pool)
	if err != nil || got != "serializable" {
		t.Errorf("the transactions of a load are %s, %v; want serializable", got, err)
	}
	for _, set := range ways(srv) {
		clearTables(t, direct)
		set.Chunk, set.Workers = 500, 2
		l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(2000, 5), Settings: set})
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatalf("%s: %v", name(set), err)
		}
		checkExact(t, direct, l, 2000)
	}
	loadertest.Exec(t, direct, "CREATE TABLE rc (id INT8 PRIMARY KEY, v INT8)", "INSERT INTO rc VALUES (2, 7)")
	for _, conflict := range []commit.Conflict{commit.SkipRow, commit.UpdateRow} {
		req := fileRequest("rc", write(t, "rc.csv", "1,1\n2,2\n3,3\n"))
		filesOf(req).Conflict = conflict
		if res, err := newLoad(t, url, req).Run(context.Background()); err != nil || res.Rows != 3 {
			t.Errorf("%s: got %d rows, %v", conflict, res.Rows, err)
		}
	}
	req := fileRequest("rc", write(t, "rc4.csv", "4,4\n5,5\n"))
	req.CommitMode = commit.Statement
	if _, err := newLoad(t, url, req).Run(context.Background()); err != nil {
		t.Error(err)
	}
	loadertest.Exec(t, direct, "CREATE TABLE old (id INT8 PRIMARY KEY, v INT8) WITH (schema_locked = false)", "INSERT INTO old VALUES (9, 9)")
	req = fileRequest("old", write(t, "new.csv", "4,4\n5,5\n"))
	req.Truncate = true
	if _, err := newLoad(t, url, req).Run(context.Background()); err != nil {
		t.Error(err)
	}
	checkRows(t, table(t, direct, "SELECT id, v FROM old"), []string{`"4"|"4"|`, `"5"|"5"|`})
	if n := loadertest.Value[int64](t, direct, "SELECT sum(v) FROM rc WHERE id = 2 AND v = 2 OR id IN (1, 3, 4, 5)"); n != 15 {
		t.Errorf("the rows have %d together, want 15", n)
	}
}

// TestDeferredIndexesOfALockedTable defers those of a table whose schema is locked, as every
// new one's is from 26.1 on. A vector index stays.
func TestDeferredIndexesOfALockedTable(t *testing.T) {
	loadertest.Slow(t)
	url := loadertest.NewestCockroachServer(t).NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL, e VECTOR(2), VECTOR INDEX near (e)) WITH (schema_locked = true)",
		"CREATE INDEX by_x ON points (x DESC)", "CREATE UNIQUE INDEX by_yz ON points (y, z)")
	want := indexes(t, url)
	l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(2000, 0), Indexes: load.DeferIndexes})
	if got := indexes(t, url); len(got) != 1 || !strings.Contains(got[0], "near") {
		t.Errorf("while the rows go in there are %q, want the vector index alone", got)
	}
	if _, err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkIndexes(t, url, want)
	if create := loadertest.Value[string](t, url, "SELECT create_statement FROM [SHOW CREATE TABLE points]"); !strings.Contains(create, "schema_locked = true") {
		t.Errorf("the table is not locked any more: %s", create)
	}
}

// TestImportThatStandsStill lets the server write so little that a job stands still: the user
// is told, and which setting it is.
func TestImportThatStandsStill(t *testing.T) {
	loadertest.Long(t)
	srv := loadertest.CockroachServer(t)
	url := srv.NewDatabase(t)
	// Half a MiB is written at a time, and what waits for that is not told of a new limit.
	loadertest.ClusterSetting(t, url, "kv.bulk_io_write.max_rate", "64KiB")
	var told notebook
	stop := make(chan struct{})
	var once sync.Once
	l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(50_000, 0), Settings: load.Settings{
		Method: load.Import, ImportOptions: importer.Options{Mode: importer.Serve, StillAfter: 2 * time.Second}, Stop: stop,
		Note: func(s string) {
			told.note(s)
			if strings.Contains(s, "made no progress") {
				once.Do(func() { close(stop) })
				loadertest.Exec(t, url, "RESET CLUSTER SETTING kv.bulk_io_write.max_rate")
			}
		},
	}})
	_, err := l.Run(context.Background())
	t.Logf("the load ended with %v", err)
	if !told.has("made no progress for") || !told.has("kv.bulk_io_write.max_rate, which limits each node's writes for the job, is 64 KiB") {
		t.Errorf("got %q", told.lines)
	}
}
