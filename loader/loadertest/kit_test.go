package loadertest_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader/loadertest"

	"github.com/jackc/pgx/v5"
)

// A recorder is a test that may fail without failing the real one.
type recorder struct {
	testing.TB
	failed   []string
	cleanups []func()
}

func (r *recorder) Helper()                   {}
func (r *recorder) Failed() bool              { return len(r.failed) > 0 }
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(f string, a ...any) { r.failed = append(r.failed, fmt.Sprintf(f, a...)) }
func (r *recorder) end() string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.failed, "\n")
}

// TestCheckNoLeaks leaves one thing of each kind behind, which must be found.
func TestCheckNoLeaks(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		dbURL := srv.NewDatabase(t)
		leave := map[string]func(testing.TB) (undo func()){
			"goroutines left": func(testing.TB) func() {
				stop := make(chan struct{})
				go func() { <-stop }()
				return func() { close(stop) }
			},
			"files left open: /dev/zero": func(testing.TB) func() {
				f, err := os.Open("/dev/zero")
				if err != nil {
					t.Fatal(err)
				}
				return func() { f.Close() }
			},
			"leaky": func(testing.TB) func() {
				c, err := pgx.Connect(context.Background(), withParam(dbURL, "application_name", "leaky"))
				if err != nil {
					t.Fatal(err)
				}
				return func() { c.Close(context.Background()) }
			},
		}
		for want, what := range leave {
			r := &recorder{TB: t}
			loadertest.CheckNoLeaks(r)
			undo := what(r)
			restore := loadertest.SetLeakTimeout(200 * time.Millisecond)
			got := r.end()
			restore()
			if !strings.Contains(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
			undo()
		}
		// What gives a test its server calls it.
		r := &recorder{TB: t}
		if srv.Cockroach {
			loadertest.CockroachServer(r)
		} else {
			loadertest.PostgreSQLServer(r)
		}
		undo := leave["leaky"](r)
		restore := loadertest.SetLeakTimeout(200 * time.Millisecond)
		if got := r.end(); !strings.Contains(got, "leaky") {
			t.Errorf("a test that takes a server and leaves a session: found %q", got)
		}
		restore()
		undo()
		r = &recorder{TB: t}
		loadertest.CheckNoLeaks(r)
		c, err := pgx.Connect(context.Background(), dbURL)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(300*time.Millisecond, func() { c.Close(context.Background()) })
		if got := r.end(); got != "" {
			t.Errorf("found %q although it went away by itself", got)
		}
	})
}

// TestDropWhileAnImportEnds has a test end while its table is offline, and the job that keeps it
// so end later: the database is dropped behind that.
func TestDropWhileAnImportEnds(t *testing.T) {
	srv := loadertest.CockroachServer(t)
	hold := make(chan struct{})
	files := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer files.Close()
	release := sync.OnceFunc(func() { close(hold) })
	defer release()

	r := &recorder{TB: t}
	url := srv.NewDatabase(r)
	loadertest.Exec(t, url, "CREATE TABLE t (k INT8 PRIMARY KEY)")
	importing, c := loadertest.Connect(t, url), loadertest.Connect(t, url)
	ended := make(chan error, 1)
	go func() {
		_, err := importing.Exec(context.Background(), "IMPORT INTO t (k) CSV DATA ('"+files.URL+"/t.csv')")
		ended <- err
	}()
	loadertest.Eventually(t, "an offline table", func() bool {
		_, err := c.Exec(context.Background(), "SELECT k FROM t")
		return err != nil && strings.Contains(err.Error(), "offline")
	})
	if got := r.end(); got != "" {
		t.Fatal(got)
	}
	next := &recorder{TB: t}
	srv.NewDatabase(next)
	release()
	if got := next.end(); got != "" {
		t.Errorf("the drop of the database with the table: %s", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("the IMPORT: %v", err)
	}
}

func points(n int64) iter.Seq2[int64, []any] {
	return func(yield func(int64, []any) bool) {
		for i := n - 1; i >= 0; i-- { // in any order
			if !yield(i, []any{float64(i) / 3, i * 2}) {
				return
			}
		}
	}
}

func TestCheckTable(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		url := srv.NewDatabase(t)
		ctx := context.Background()
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(ctx) })
		exec := func(sql string) {
			t.Helper()
			if _, err := c.Exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		exec(`CREATE TABLE "ev""il" (id INT, x FLOAT, "b al" INT)`) // without a key
		table := loadertest.Table{Name: pgx.Identifier{`ev"il`}, Columns: []string{"x", "b al"}}
		fill := func() {
			t.Helper()
			exec(`DELETE FROM "ev""il"`)
			exec(`INSERT INTO "ev""il" SELECT g, g::FLOAT / 3, g * 2 FROM generate_series(0, 99) AS g`)
		}
		fill()
		sum := loadertest.CheckTable(t, url, table, points(100))

		for _, c := range []struct {
			sql  string
			want string // of the first difference
			diff loadertest.Diff
		}{
			{"DELETE FROM t WHERE id = 7", "key 7: missing: 2.3333333333333335, 14", loadertest.Diff{Missing: 1}},
			{"INSERT INTO t SELECT * FROM t WHERE id = 7", "key 7: once more than expected: 2.3333333333333335, 14", loadertest.Diff{Twice: 1}},
			{"INSERT INTO t VALUES (500, 1, NULL)", "key 500: not expected: 1, NULL", loadertest.Diff{Foreign: 1}},
			{"UPDATE t SET x = x + 1e-14 WHERE id = 7", "key 7: 2.333333333333343", loadertest.Diff{Wrong: 1}},
			{"UPDATE t SET id = 8 WHERE id = 7", "key 7: missing", loadertest.Diff{Missing: 1, Foreign: 1}},
		} {
			fill()
			exec(strings.ReplaceAll(strings.Replace(c.sql, " t ", ` "ev""il" `, 1), "FROM t ", `FROM "ev""il" `))
			got, err := loadertest.CompareTable(url, table, points(100))
			if err != nil {
				t.Fatal(err)
			}
			if got.OK() || got.Missing != c.diff.Missing || got.Twice != c.diff.Twice || got.Foreign != c.diff.Foreign ||
				got.Wrong != c.diff.Wrong || len(got.First) == 0 || !strings.HasPrefix(got.First[0], c.want) || got.Checksum == sum {
				t.Errorf("%s: %v", c.sql, got)
			}
		}
		r := &recorder{TB: t}
		loadertest.CheckTable(r, url, table, points(101))
		if r.end() == "" {
			t.Error("CheckTable did not fail the test")
		}
		fill()
		exec(`INSERT INTO "ev""il" VALUES (500, 1, NULL)`)
		table.Where = "id < 100"
		if got := loadertest.CheckTable(t, url, table, points(100)); got != sum {
			t.Errorf("checksum %s, want %s", got, sum)
		}
	})
}

func TestCompareTableWithoutRows(t *testing.T) {
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	if _, err := loadertest.CompareTable(url, loadertest.Table{Name: pgx.Identifier{"none"}}, points(0)); err == nil {
		t.Error("no error for a table that is not there")
	}
}

func TestCanary(t *testing.T) {
	c := loadertest.NewCanary()
	p := c.Password()
	half := p[:20]
	for name, output := range map[string]string{
		"plain":        "connect to " + p,
		"cut":          "host " + half + "…",
		"rest":         "host " + p[len(p)-20:],
		"query":        url.QueryEscape(p),
		"path":         url.PathEscape(p),
		"userinfo":     url.UserPassword("u", p).String(),
		"quoted":       fmt.Sprintf("%q", p),
		"upper":        strings.ToUpper(p),
		"hex":          fmt.Sprintf("%x", "user:"+p),
		"base64":       base64.StdEncoding.EncodeToString([]byte(p)),
		"base64 +1":    base64.StdEncoding.EncodeToString([]byte("u" + p)),
		"base64 +5":    base64.URLEncoding.EncodeToString([]byte("user:" + p)),
		"base64 plain": base64.RawURLEncoding.EncodeToString([]byte("user:" + c.PlainPassword())),
	} {
		if len(c.Find(output)) == 0 {
			t.Errorf("%s: not found in %q", name, output)
		}
		r := &recorder{TB: t}
		c.Check(r, name, output)
		if got := r.end(); got == "" || len(c.Find(got)) > 0 {
			t.Errorf("%s: reported as %q", name, got)
		}
	}
	c.Check(t, "another password", loadertest.NewCanary().Password())
}

// TestServerIsReplaced: a CockroachDB that has served its tests makes way for a new one, but not
// while a test has it.
func TestServerIsReplaced(t *testing.T) {
	defer loadertest.SetWorn(1)()
	var first string
	t.Run("worn", func(t *testing.T) {
		srv := loadertest.CockroachServer(t)
		first = srv.URL()
		srv.NewDatabase(t)
		t.Run("and in use", func(t *testing.T) {
			if url := loadertest.CockroachServer(t).URL(); url != first {
				t.Errorf("the server was replaced by %s while a test had it", url)
			}
		})
	})
	t.Run("given back", func(t *testing.T) {
		srv := loadertest.CockroachServer(t)
		if srv.URL() == first {
			t.Error("the server was not replaced")
		}
		loadertest.Connect(t, srv.NewDatabase(t))
	})
	if first == "" {
		t.Skip("no CockroachDB")
	}
	if _, err := pgx.Connect(context.Background(), first); err == nil {
		t.Errorf("the worn server still runs")
	}
}
