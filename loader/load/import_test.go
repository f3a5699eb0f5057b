package load_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// importBy are the ways in which the server reaches rows in these tests.
var importBy = []importer.Mode{importer.Serve, importer.Upload}

// checkNothingLeft fails the test where a job is still at work or an uploaded file is
// still there.
func checkNothingLeft(t testing.TB, url, table string) {
	t.Helper()
	loadertest.Value[int64](t, url, "SELECT count(*) FROM "+table) // it is online
	name := loadertest.Value[string](t, url, "SELECT current_database()")
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS])] WHERE job_type = 'IMPORT' AND position('"+name+".' IN description) > 0 AND status NOT IN ('succeeded', 'failed', 'canceled')"); n != 0 {
		t.Errorf("%d jobs are still at work", n)
	}
	if loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW TABLES] WHERE table_name = 'userfiles_root_upload_files'") > 0 {
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM userfiles_root_upload_files"); n != 0 {
			t.Errorf("%d uploaded files are left", n)
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM userfiles_root_upload_payload"); n != 0 {
			t.Errorf("%d pieces of uploaded files are left", n)
		}
	}
}

func TestImportIsExact(t *testing.T) {
	s := loadertest.CockroachServer(t)
	for _, mode := range importBy {
		for what, rows := range map[string]func(int64, uint64) dataset.Dataset{"points": points, "accounts": accounts} {
			t.Run(string(mode)+"/"+what, func(t *testing.T) {
				if mode == importer.Upload && what == "points" {
					loadertest.Long(t)
				}
				if what == "accounts" {
					loadertest.Slow(t)
				}
				url := s.NewDatabase(t)
				l := newLoad(t, url, load.Request{Dataset: rows(30_001, 9), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: mode, Streams: 3}}})
				res, err := l.Run(context.Background())
				if err != nil || res.Rows != 30_001 {
					t.Fatalf("got %d rows, %v", res.Rows, err)
				}
				checkExact(t, url, l, 30_001)
				checkNothingLeft(t, url, what)
			})
		}
	}
}

// files makes a CSV of every trap: NULL and empty, quotes, ends of lines, tabs,
// backslashes.
func trapCSV(t *testing.T, rows int) *files.Request {
	t.Helper()
	var b strings.Builder
	b.WriteString("id,a,b,n\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d,%s,%s,%d\n", i, [...]string{``, `""`, `"x""y"`, `back\slash`, "\"tab\tand\r\nCRLF\"", `\N`, `ünï`}[i%7], [...]string{`\\x00ff`, ``}[i%2], i*i)
	}
	path := filepath.Join(t.TempDir(), "trap.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return &files.Request{Names: []string{path}, Input: files.NewInput(os.Stdin)}
}

func TestImportOfFilesKeepsEveryByte(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	const ddl = "(id INT8 PRIMARY KEY, a TEXT, b BYTES, n INT8 NOT NULL, INDEX (n), CHECK (n >= 0))"
	want := s.NewDatabase(t)
	loadertest.Exec(t, want, "CREATE TABLE t "+ddl)
	ref := newLoad(t, want, load.Request{Table: "t", Dataset: files.New(*trapCSV(t, 3000))})
	if _, err := ref.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	sum := func(url string) string {
		return loadertest.Value[string](t, url, "SELECT md5(string_agg(id::TEXT || COALESCE('.' || a, '-') || COALESCE('.' || encode(b, 'hex'), '-') || n::TEXT, ',' ORDER BY id)) FROM t")
	}
	for _, mode := range importBy {
		t.Run(string(mode), func(t *testing.T) {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t "+ddl)
			l := newLoad(t, url, load.Request{Table: "t", Dataset: files.New(*trapCSV(t, 3000)), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: mode, Streams: 4}}})
			res, err := l.Run(context.Background())
			if err != nil || res.Rows != 3000 {
				t.Fatalf("got %d rows, %v", res.Rows, err)
			}
			if got, want := sum(url), sum(want); got != want {
				t.Error("IMPORT has loaded other values than chunks do")
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW CONSTRAINTS FROM t] WHERE NOT validated"); n != 0 {
				t.Errorf("%d constraints are not validated", n)
			}
			checkNothingLeft(t, url, "t")
		})
	}
}

// A load that fails leaves the table as it was, and says what is wrong and where.
func TestImportThatFailsLeavesNothing(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	for _, mode := range importBy {
		for _, x := range []struct {
			name, ddl, want string
			before          string
		}{
			{"bad value", "(id INT8 PRIMARY KEY, a TEXT, b BYTES, n INT2)", "trap.csv:", ""},
			{"colliding row", "(id INT8 PRIMARY KEY, a TEXT, b BYTES, n INT8)", "collides", "INSERT INTO t VALUES (100, 'mine', NULL, 1)"},
			{"duplicate in a unique index", "(id INT8 PRIMARY KEY, a TEXT, b BYTES, n INT8, u INT8 AS (n % 7) STORED UNIQUE)", "duplicate", ""},
		} {
			t.Run(string(mode)+"/"+x.name, func(t *testing.T) {
				if mode == importer.Upload && x.before == "" {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE t "+x.ddl)
				before := int64(0)
				if x.before != "" {
					loadertest.Exec(t, url, x.before)
					before = 1
				}
				l := newLoad(t, url, load.Request{Table: "t", Dataset: files.New(*trapCSV(t, 1000)), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: mode, Streams: 2}}})
				_, err := l.Run(context.Background())
				var job *importer.JobError
				if !errors.As(err, &job) || !job.Data || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "none of its rows was loaded") {
					t.Errorf("got %v, want a fault of the data with %q", err, x.want)
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != before {
					t.Errorf("the table has %d rows, want %d", n, before)
				}
				checkNothingLeft(t, url, "t")
			})
		}
	}
}

// A bad record breaks the file off while the server reads it. The job must not take the
// part for the whole.
func TestImportOfAFileThatCannotBeParsed(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, a TEXT)")
	var b strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&b, "%d,x\n", i)
	}
	b.WriteString("200000,x,too many\n")
	path := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLoad(t, url, load.Request{Table: "t", Dataset: files.New(files.Request{Names: []string{path}, Header: files.HeaderNo, Input: files.NewInput(os.Stdin)}), Settings: load.Settings{Method: load.Import}})
	_, err := l.Run(context.Background())
	var data *files.DataError
	if !errors.As(err, &data) || data.Line != 200_001 {
		t.Errorf("got %v, want the line of the bad record", err)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != 0 {
		t.Errorf("the table has %d rows", n)
	}
	checkNothingLeft(t, url, "t")
}

func TestImportIsRefusedWithAReason(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8, y FLOAT8, z FLOAT8)", "CREATE TABLE child (id INT8 REFERENCES points (id))",
		"CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)", "INSERT INTO accounts VALUES (1, 1)", "CREATE TABLE nokey (a TEXT, b TEXT)", "INSERT INTO nokey VALUES ('x', 'y')")
	csv := func(table string) load.Request {
		f := trapCSV(t, 10)
		f.Map = map[string]string{"id": "", "n": ""}
		return load.Request{Table: table, Dataset: files.New(*f)}
	}
	for want, req := range map[string]load.Request{
		"referenced by child": {Dataset: dataset.NewPoints(10, 0)},
		"collide":             {Dataset: dataset.NewAccounts(10, 0)},
		"keys that IMPORT":    csv("nokey"),
		"--rate cannot be":    {Dataset: dataset.NewPoints(10, 0), Table: "other", Settings: load.Settings{Rate: 10}},
	} {
		req.Method = load.Import
		_, err := load.New(context.Background(), loadertest.Open(t, url), req)
		var table *load.TableError
		if !errors.As(err, &table) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// Where the server cannot read from is known before there is a job.
	_, err := load.New(context.Background(), loadertest.Open(t, url), load.Request{Dataset: dataset.NewPoints(10, 0), Table: "other", Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Serve, Addr: "127.0.0.1:99999"}}})
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a port that there is not: got %v", err)
	}
}

// A user without the admin role cannot have the server read from HTTP, but can upload.
func TestImportWithoutAdmin(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	db := loadertest.Value[string](t, url, "SELECT current_database()")
	user := "u" + db
	loadertest.Exec(t, url, "CREATE USER "+user, "GRANT ALL ON DATABASE "+db+" TO "+user)
	plain := strings.Replace(url, "root@", user+"@", 1)
	_, err := load.New(context.Background(), loadertest.Open(t, plain), load.Request{Dataset: dataset.NewPoints(100, 0), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Serve}}})
	if err == nil || !strings.Contains(err.Error(), "--handoff upload") {
		t.Errorf("got %v, want the way out named", err)
	}
	l := newLoad(t, plain, load.Request{Dataset: dataset.NewPoints(5000, 0), Settings: load.Settings{Method: load.Import}})
	if res, err := l.Run(context.Background()); err != nil || res.Rows != 5000 {
		t.Fatalf("got %d rows, %v", res.Rows, err)
	}
}

// TestStopCancelsTheJob stops a load when its job is known: the job is cancelled, if it does
// not fail before since nothing is served any more, and what is left is an online table
// without rows.
func TestStopCancelsTheJob(t *testing.T) {
	loadertest.Slow(t)
	eachImport(t, func(t *testing.T, url string, sub subject) {
		if sub.ImportOptions.Mode == importer.Upload {
			loadertest.Long(t)
		}
		const n = 100_000
		stop := make(chan struct{})
		sub.Stop = stop
		known := &loadertest.Fault{When: loadertest.Match{SQL: `^UPDATE loader\.loads SET job`, Kind: loadertest.MsgStatement}, Do: loadertest.Delay}
		x := sub.start(t, url, n, known)
		select {
		case <-known.Done():
			close(stop)
		case <-x.done:
		}
		if _, err := x.wait(); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("got %v, want ErrStopped", err)
		}
		if status := loadertest.Value[string](t, url, "SELECT status FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS])] WHERE job_type = 'IMPORT' AND position($1 IN description) > 0", x.ID); status != "canceled" && (status != "failed" || sub.ImportOptions.Mode == importer.Upload) {
			t.Errorf("the job has %s, want it canceled", status)
		}
		if rows := sub.count(t, url); rows != 0 {
			t.Errorf("%d rows are left", rows)
		}
		checkNothingLeft(t, url, "points")
		x.Close()
		resume(t, url, x.Load, load.Settings{})
		checkExact(t, url, x.Load, n)
		checkNothingLeft(t, url, "points")
	})
}

// strike ends the sessions of a load that the condition holds for, adds them to those
// that were ended before, and reports whether there was another. CockroachDB 26.1 lists some with
// an id of zeros, as one that has done a COPY: strike reports these, and cannot end them.
func strike(t *testing.T, url, load, condition string, ended map[string]bool) bool {
	t.Helper()
	found := false
	for _, id := range loadertest.Value[[]string](t, url, "SELECT COALESCE(array_agg(session_id), ARRAY[]) FROM [SHOW CLUSTER SESSIONS] WHERE position($1 IN application_name) = 1 AND "+condition, "loader "+load) {
		if strings.Trim(id, "0") == "" {
			found = true
			continue
		}
		loadertest.Exec(t, url, "CANCEL SESSION IF EXISTS '"+id+"'")
		found = found || !ended[id]
		ended[id] = true
	}
	return found
}

// The server may lose the connection that an IMPORT INTO was sent on, and then any other:
// the job goes on, and the load with it.
func TestImportSurvivesLostConnections(t *testing.T) {
	loadertest.Long(t)
	eachImport(t, func(t *testing.T, url string, sub subject) {
		const withID = "session_id ~ '[1-9a-f]'"
		const n = 500_000 // the job takes some seconds, and polls come once a second
		x := sub.startDirect(t, url, n)
		ended := map[string]bool{}
		for _, condition := range []string{"active_queries LIKE 'IMPORT INTO%'", withID, withID, withID} {
			loadertest.Eventually(t, "a session that is "+condition, func() bool {
				return strike(t, url, x.ID, condition, ended) || !x.running()
			})
		}
		if res := x.mustEnd(t); res.Rows != n {
			t.Errorf("got %d rows", res.Rows)
		}
		t.Logf("%d sessions ended", len(ended))
		if len(ended) < 3 {
			t.Errorf("%d sessions were ended, want that of the statement and two others: the load was faster", len(ended))
		}
		sub.exact(t, url, x.Load, n)
	})
}

func TestTwoRunsOfOneImport(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	sub := imported(importer.Serve)
	first := sub.startDirect(t, url, 150_000)
	loadertest.Eventually(t, "the first run's job", func() bool {
		return loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
	})
	resume(t, url, first.Load, load.Settings{})
	first.mustEnd(t)
	sub.exact(t, url, first.Load, 150_000)
}

// A run that follows an earlier one's job gives the time of the job, not that since it
// came: else its rows per second would be of both runs' rows in its own time alone. The files are
// uploaded: a job that reads them from the first run may fail with it, and is followed by another.
func TestResumeGivesTheJobsTime(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	ctx, kill := context.WithCancel(context.Background())
	defer kill()
	known := &loadertest.Fault{When: loadertest.Match{SQL: `^UPDATE loader\.loads SET job`, Kind: loadertest.MsgStatement}, Do: loadertest.Delay}
	proxy := loadertest.NewProxy(t, url, known)
	context.AfterFunc(ctx, proxy.CloseAll)
	go func() {
		select {
		case <-known.Done():
			kill()
		case <-ctx.Done():
		}
	}()
	l := newLoad(t, proxy.URL(), load.Request{Dataset: dataset.NewPoints(300_000, 0), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Upload}}})
	if _, err := l.Run(ctx); err == nil || server.Classify(err) != server.Uncertain { // it may hear of its connections first
		t.Fatalf("got %v, want the first run ended", err)
	}
	l.Close()
	again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	res, err := again.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	const job = "FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS])] WHERE job_type = 'IMPORT' AND position($1 IN description) > 0"
	if n := loadertest.Value[int64](t, url, "SELECT count(*) "+job, l.ID); n != 1 {
		t.Fatalf("%d jobs, want the first run's alone", n)
	}
	took := time.Duration(loadertest.Value[float64](t, url, "SELECT extract(epoch FROM finished - started)::FLOAT8 "+job, l.ID) * float64(time.Second))
	if res.Rows != 300_000 || res.Elapsed < took-time.Millisecond {
		t.Errorf("%d rows in %s, and the job took %s", res.Rows, res.Elapsed, took)
	}
}

func TestUploadInSeveralJobs(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(100_000, 0), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Upload, BatchBytes: 2 << 20}}})
	res, err := l.Run(context.Background())
	if err != nil || res.Rows != 100_000 || res.Chunks < 3 {
		t.Fatalf("got %d rows in %d jobs, %v", res.Rows, res.Chunks, err)
	}
	checkExact(t, url, l, 100_000)
	checkNothingLeft(t, url, "points")
}
