package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// imported is the subject that is handed off to IMPORT.
func imported(mode importer.Mode) subject {
	return subject{"points", "points", pointsDDL, load.Settings{
		Method: load.Import, ImportOptions: importer.Options{Mode: mode, Streams: 2},
	}, generated(points), wantGenerated, 0}
}

// eachImport runs f for both ways in which the server reaches rows.
func eachImport(t *testing.T, f func(t *testing.T, url string, sub subject)) {
	t.Helper()
	eachImportOn(t, loadertest.CockroachServer(t), f)
}

func eachImportOn(t *testing.T, srv loadertest.Server, f func(t *testing.T, url string, sub subject)) {
	t.Helper()
	url := srv.NewDatabase(t)
	for _, mode := range importBy {
		t.Run(string(mode), func(t *testing.T) {
			loadertest.CheckNoLeaks(t)
			clearTables(t, url)
			f(t, url, imported(mode))
		})
	}
}

// checkOneJob fails the test unless one job was begun for the load, and nothing of it is
// left on the server.
func checkOneJob(t testing.TB, direct string, l *load.Load) {
	t.Helper()
	if jobs := loadertest.Value[int64](t, direct, "SELECT count(*) FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS])] WHERE job_type = 'IMPORT' AND position($1 IN description) > 0", l.ID); jobs != 1 {
		t.Errorf("%d jobs were begun, want one", jobs)
	}
	checkNothingLeft(t, direct, "points")
}

// finish has the trial, which may have given up, bring its rows: by a further run then.
func (s subject) finish(t testing.TB, url string, x *trial, n int64) {
	t.Helper()
	if _, err := x.wait(); err != nil {
		t.Logf("the first run: %v", err)
		if !errors.Is(err, loader.ErrGaveUp) {
			t.Errorf("got %v, want success or to give up", err)
		}
		x.proxy.Heal()
		x.Close()
		resume(t, url, x.Load, load.Settings{})
	}
	s.exact(t, url, x.Load, n)
}

// TestImportCutAtEachMessage is TestCutAtEachMessage for a load by IMPORT, whose rows do
// not go over these connections, or as the parts of an upload. Each cut takes a second or
// so, so that few are made, each time at others.
func TestImportCutAtEachMessage(t *testing.T) {
	loadertest.Long(t)
	eachImport(t, func(t *testing.T, url string, sub subject) {
		const n, step = 200, 43
		actions := []loadertest.Action{loadertest.Cut, loadertest.CutAfter, loadertest.CutMiddle}
		cuts := 0
		for at := 1 + rand.IntN(step); ; at += step {
			clearTables(t, url)
			fault := &loadertest.Fault{Nth: at, Do: actions[cuts%3], Reset: at%2 == 0}
			proxy := loadertest.NewProxy(t, url, fault)
			x := sub.enter(t, proxy.URL(), url, n)
			x.proxy = proxy
			x.run(t)
			sub.finish(t, url, x, n)
			x.Close()
			proxy.Close()
			if t.Failed() {
				t.Fatalf("%v at message %d", fault.Do, at)
			}
			if !fault.Fired() {
				t.Logf("%d cuts; none is left at message %d", cuts, at)
				return
			}
			cuts++
		}
	})
}

// TestImportProbeIsCut cuts the connection over which the server is asked to read from
// here: the load is served all the same.
func TestImportProbeIsCut(t *testing.T) {
	srv := loadertest.CockroachServer(t)
	url := srv.NewDatabase(t)
	fault := &loadertest.Fault{When: loadertest.Match{SQL: `^SHOW BACKUP`, Kind: loadertest.MsgStatement}, Do: loadertest.Cut}
	l := imported(importer.Serve).enter(t, loadertest.NewProxy(t, url, fault).URL(), url, 10)
	if !fault.Fired() || !strings.HasPrefix(l.Handoff(), "served at ") {
		t.Errorf("%d cuts, %s", fault.Count(), l.Handoff())
	}
	l.Close()
}

// importInto matches the statement that starts a job.
var importInto = loadertest.Match{SQL: `^IMPORT INTO`, Kind: loadertest.MsgStatement}

// TestImportRepliesAreLost loses what is said around a job, each once: the statement that
// starts it, the answer to that, and those to the registry, which is to find it again.
func TestImportRepliesAreLost(t *testing.T) {
	eachImport(t, func(t *testing.T, url string, sub subject) {
		if sub.ImportOptions.Mode == importer.Upload {
			loadertest.Long(t)
		}
		faults := []*loadertest.Fault{{When: importInto, Do: loadertest.SwallowReply}}
		if loadertest.Chaos {
			faults = append(faults,
				&loadertest.Fault{When: importInto, Do: loadertest.CutAfter},
				&loadertest.Fault{When: loadertest.Match{SQL: `^UPDATE loader\.loads SET spec`, Kind: loadertest.MsgStatement}, Do: loadertest.SwallowReply},
				&loadertest.Fault{When: loadertest.Match{SQL: `^UPDATE loader\.loads SET job`, Kind: loadertest.MsgStatement}, Do: loadertest.SwallowReply})
		}
		for _, fault := range faults {
			clearTables(t, url)
			x := sub.start(t, url, 200, fault)
			res := x.mustEnd(t)
			if !fault.Fired() || res.Rows != 200 {
				t.Errorf("%s: happened %d times, %d rows", fault.When.SQL, fault.Count(), res.Rows)
			}
			sub.exact(t, url, x.Load, 200)
			if t.Failed() {
				t.Fatalf("after %v of %s", fault.Do, fault.When.SQL)
			}
		}
	})
}

// TestImportStatementThatArrivesLate holds the statement back until another has brought the
// rows, while what it reads is still served. Its session was ended before the other was
// sent.
func TestImportStatementThatArrivesLate(t *testing.T) {
	loadertest.Long(t)
	test := func(t *testing.T, url string, sub subject) {
		fault := &loadertest.Fault{When: importInto, Do: loadertest.Hold}
		x := sub.start(t, url, 200, fault)
		x.mustEnd(t)
		// CockroachDB 26.1 mostly takes leave of an idle session that is ended, by an error of its own.
		leave := loadertest.Open(t, url).AtLeast(26, 1, 0)
		if replies := fault.Release(); len(replies) != 1 || replies[0] != "connection closed" && (!leave || replies[0] != "ERROR XXUUU") {
			t.Errorf("the late statement was answered by %q, want its session ended", replies)
		}
		sub.exact(t, url, x.Load, 200)
	}
	eachImport(t, test)
	t.Run("newest", func(t *testing.T) { eachImportOn(t, loadertest.NewestCockroachServer(t), test) })
}

// TestImportInSilence has a connection go silent without ending, when the job is to start,
// when it is looked for and followed, and around it: each is given up with its time.
func TestImportInSilence(t *testing.T) {
	loadertest.Long(t)
	eachImport(t, func(t *testing.T, url string, sub subject) {
		sub.ChunkTimeout, sub.RetryFor = 2*aBlackHole, time.Minute
		holes := []string{`^IMPORT INTO`, `FROM \[SHOW JOBS\]`, `FROM \[SHOW JOB \d`, `^SELECT 1 FROM`}
		if sub.ImportOptions.Mode == importer.Upload {
			holes = []string{`^UPSERT INTO .*upload_payload`, `^DELETE FROM .*upload_files`}
		}
		for _, sql := range holes {
			clearTables(t, url)
			faults := []*loadertest.Fault{{When: loadertest.Match{SQL: sql, Kind: loadertest.MsgStatement}, Do: loadertest.BlackHole}}
			if strings.Contains(sql, "SHOW") { // else the answer may come before it is asked for
				faults = append(faults, &loadertest.Fault{When: importInto, Do: loadertest.SwallowReply})
			}
			var x *trial
			err := within(t, 40, func(ctx context.Context) error {
				x = sub.start(t, url, 200, faults...)
				select {
				case <-x.done:
					return x.err
				case <-ctx.Done():
					return fmt.Errorf("%s: %w", sql, ctx.Err())
				}
			})
			if err != nil || !faults[0].Fired() {
				t.Fatalf("%s: happened %d times, %v", sql, faults[0].Count(), err)
			}
			sub.exact(t, url, x.Load, 200)
			x.proxy.CloseAll()
		}
	})
}

// TestImportOfFewerRows has the server read a file that lacks some of the load's rows: the
// load is not confirmed, by this run or by any other that follows, which has no reply to
// read the count in.
func TestImportOfFewerRows(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.CockroachServer(t)
	for before := range 2 {
		t.Run(fmt.Sprint(before, " before"), func(t *testing.T) { importFewer(t, srv, before) })
	}
}

// importFewer does so with a table that has some rows before.
func importFewer(t *testing.T, srv loadertest.Server, before int) {
	url := srv.NewDatabase(t)
	loadertest.Exec(t, url, pointsDDL, fmt.Sprintf("INSERT INTO points SELECT g, 0, 0, 0 FROM generate_series(1, %d) AS g", before))
	const n, there = 200, 193
	var l *load.Load
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := virtual.File{Source: l.Dataset.Source(), Range: chunker.Range{End: there}, Format: virtual.CSV}
		text.Write(r.Context(), w, 0)
	}))
	defer files.Close()
	l = newLoad(t, url, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.URLs, Files: []string{files.URL + "/p.csv"}}}})
	_, err := l.Run(context.Background())
	for range 3 {
		if !errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), "193 rows of 200") {
			t.Errorf("got %v, want ErrUnconfirmed", err)
		}
		l.Close()
		again, e := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{})
		if e != nil {
			t.Fatal(e)
		}
		_, err = again.Run(context.Background())
		again.Close()
	}
}

// TestImportCountThatDiffers has the server's reply count fewer rows than the job has
// brought, as of a job that has gone over to another node, or more, as of one that was begun
// again: the keys of the load are counted, whether the table was empty before or not. The keys of
// a file are not known, so the rows of a table that was empty before are counted.
func TestImportCountThatDiffers(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.CockroachServer(t)
	file := fileSubject("file", fileDDL, "", load.Import, 0)
	file.ImportOptions = importer.Options{Mode: importer.Serve}
	for _, c := range []struct {
		sub          subject
		before, less int
	}{
		{imported(importer.Serve), 0, 7}, {imported(importer.Serve), 1, 7}, {imported(importer.Serve), 0, -7}, {imported(importer.Serve), 1, -7},
		{file, 0, 7}, {file, 0, -7},
	} {
		what := fmt.Sprintf("%s, %d before, %d less", c.sub.kind, c.before, c.less)
		url := srv.NewDatabase(t)
		loadertest.Exec(t, url, c.sub.ddl)
		if c.before > 0 {
			loadertest.Exec(t, url, fmt.Sprintf("INSERT INTO points SELECT g, 0, 0, 0 FROM generate_series(1, %d) AS g", c.before))
		}
		fault := &loadertest.Fault{
			When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgDataRow, SQL: importInto.SQL},
			Do:   loadertest.Recount, Less: c.less, Column: 3, // job_id, status, fraction_completed, rows
		}
		x := c.sub.start(t, url, 200, fault)
		_, err := x.wait()
		if !fault.Fired() {
			t.Fatalf("%s: no count was changed", what)
		}
		x.Close()
		if err != nil {
			t.Errorf("%s: got %v, want the rows counted", what, err)
			continue
		}
		resume(t, url, x.Load, load.Settings{})
		if c.before > 0 {
			loadertest.Exec(t, url, fmt.Sprintf("DELETE FROM points WHERE id <= %d", c.before))
		}
		c.sub.exact(t, url, x.Load, 200)
	}
}
