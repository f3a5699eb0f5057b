package load_test

import (
	"context"
	"errors"
	"testing"

	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestRunsShareAnImportOfSeveralJobs has a run of an upload in several jobs stopped while another
// works on later batches, whose job is the one on record: a third run takes what was given back,
// and all end well.
func TestRunsShareAnImportOfSeveralJobs(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	settings := load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Upload, BatchBytes: 1 << 20}}
	stop := make(chan struct{})
	first := settings
	first.Stop = stop
	const n = 120_000
	a := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: first})
	type end struct {
		res loader.Result
		err error
	}
	run := func(l *load.Load) <-chan end {
		ended := make(chan end, 1)
		go func() {
			res, err := l.Run(context.Background())
			ended <- end{res, err}
		}()
		return ended
	}
	jobs := func() int64 {
		return loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS])] WHERE job_type = 'IMPORT' AND position($1 IN description) > 0", a.ID)
	}
	aEnds := run(a)
	loadertest.Eventually(t, "the first job", func() bool { return jobs() >= 1 })
	srv := loadertest.Open(t, url)
	b, err := load.Resume(t.Context(), srv, a.ID, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	bEnds := run(b)
	loadertest.Eventually(t, "a job of the second run", func() bool { return jobs() >= 2 })
	close(stop)
	if x := <-aEnds; x.err != nil && !errors.Is(x.err, loader.ErrStopped) {
		t.Errorf("the run that was stopped ends with %v", x.err)
	}
	c, err := load.Resume(t.Context(), srv, a.ID, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cEnds := run(c)
	for name, ends := range map[string]<-chan end{"second": bEnds, "third": cEnds} {
		if x := <-ends; x.err != nil {
			t.Errorf("the %s run ends with %v", name, x.err)
		}
	}
	checkExact(t, url, b, n)
	checkNothingLeft(t, url, "points")
}

// TestTableThatGoesOfflineWhileItIsDescribed has a job of another run take the table offline between
// two queries about it, when a load is resumed: the load waits, and goes on.
func TestTableThatGoesOfflineWhileItIsDescribed(t *testing.T) {
	loadertest.Slow(t)
	url := loadertest.CockroachServer(t).NewDatabase(t)
	const n = 200
	l := newLoad(t, url, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.Upload}}})
	l.Close()
	offline := &loadertest.Fault{When: loadertest.Match{SQL: "indisprimary", Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "55000", Times: 6}
	again, err := load.Resume(t.Context(), loadertest.Open(t, loadertest.NewProxy(t, url, offline).URL()), l.ID, load.Settings{})
	if err != nil || offline.Count() != 6 {
		t.Fatalf("got %v after %d queries that failed, want that the load waits for the table", err, offline.Count())
	}
	defer again.Close()
	if _, err := again.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkExact(t, url, again, n)
}
