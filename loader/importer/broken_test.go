package importer_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/loadertest"
)

// A breaker stands between a reader and a server, and breaks answers off.
type breaker struct {
	to       string // scheme://host:port
	after    int64  // bytes of each answer to a GET
	noRanges bool   // ranges are not offered

	resumed atomic.Int64
}

func (b *breaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, b.to+r.URL.Path, nil)
	if err != nil {
		panic(err)
	}
	if at := r.Header.Get("Range"); at != "" {
		b.resumed.Add(1)
		req.Header.Set("Range", at)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	for k := range res.Header {
		if !b.noRanges || k != "Accept-Ranges" {
			w.Header().Set(k, res.Header.Get(k))
		}
	}
	w.WriteHeader(res.StatusCode)
	if n, err := io.CopyN(w, res.Body, b.after); n == b.after && err == nil {
		panic(http.ErrAbortHandler)
	}
}

// The connection over which CockroachDB reads a file breaks in the middle, again and
// again: it goes on from there, and the job has each row once. Where no ranges are
// offered it cannot.
func TestBrokenReadsOfALiveImport(t *testing.T) {
	url := loadertest.CockroachServer(t).NewDatabase(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	// A node of a newer server looks for cancelled jobs now and then; 21.1 has no such settings.
	for _, setting := range []string{"jobs.registry.interval.cancel", "jobs.registry.interval.adopt"} {
		if _, err := conn.Exec(ctx, "SET CLUSTER SETTING "+setting+" = '1s'"); err == nil {
			t.Cleanup(func() { loadertest.Exec(t, url, "RESET CLUSTER SETTING "+setting) })
		}
	}
	const rows = 40_000
	for _, x := range []struct {
		table    string
		noRanges bool
	}{{"whole", false}, {"broken", true}} {
		loadertest.Exec(t, url, "CREATE TABLE "+x.table+" (id INT8 PRIMARY KEY, x FLOAT8, y FLOAT8, z FLOAT8)")
		s, err := serve.Listen("", "", "", "", serve.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		file := s.Offer("points.csv", &virtual.File{Source: dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: dataset.MinKeyBase, Rows: rows}}, Range: chunker.Range{End: rows}, Format: virtual.CSV})
		b := &breaker{to: "http://" + s.Addr(), after: 300_000, noRanges: x.noRanges}
		between := httptest.NewServer(b)
		defer between.Close()
		within := ctx
		if x.noRanges {
			// A server from some version on tries again and again, for minutes.
			var done context.CancelFunc
			within, done = context.WithTimeout(ctx, 15*time.Second)
			defer done()
		}
		a, err := importer.Import(within, conn, importer.Statement{
			Table: pgx.Identifier{x.table}, Columns: []string{"id", "x", "y", "z"}, Format: virtual.CSV, Files: []string{between.URL + path(t, file)},
		})
		if within.Err() != nil {
			if conn, err = pgx.Connect(ctx, url); err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			loadertest.Exec(t, url, "CANCEL JOBS (SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'IMPORT' AND status = 'running')")
			err = within.Err()
		}
		loadertest.Eventually(t, "the table online", func() bool { // from some version on it is so later than the statement's answer
			return importer.Online(ctx, conn, pgx.Identifier{x.table}) == nil
		})
		got := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+x.table)
		switch {
		case x.noRanges && (err == nil || got != 0):
			t.Errorf("without ranges %d rows are in, %v: the control shows nothing", got, err)
		case !x.noRanges && (err != nil || a.Rows != rows || got != rows):
			t.Errorf("got %d rows, %d in the table, %v", a.Rows, got, err)
		case !x.noRanges && b.resumed.Load() < 5:
			t.Errorf("%d reads went on from where one broke", b.resumed.Load())
		}
	}
}

// path returns the path of a URL.
func path(t *testing.T, file string) string {
	t.Helper()
	u, err := url.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}
