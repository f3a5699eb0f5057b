package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// TestSignalEndsIdleReads sends one SIGINT to a load that waits for a pipe nobody writes
// to, or for a server that is silent, before the first record and in the midst of them: it
// ends, and says what is in.
func TestSignalEndsIdleReads(t *testing.T) {
	const n = 40_000
	var text strings.Builder // more than a span, so that rows are in before the end is
	for i := range n {
		fmt.Fprintf(&text, "%d,%s\n", i, strings.Repeat("x", 60))
	}
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		session := "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'loader %')"
		if s.Cockroach {
			session = "SELECT EXISTS (SELECT 1 FROM [SHOW CLUSTER SESSIONS] WHERE application_name LIKE 'loader %')"
		}
		for _, test := range []struct {
			name string
			http bool
			sent int // bytes, then silence
			says string
		}{
			{"pipe before the first record", false, 0, "standard input: stopped before the first row; nothing was loaded"},
			{"server before the first record", true, 0, "rows.csv: stopped before the first row; nothing was loaded"},
			{"pipe between records", false, text.Len() - 10, `(?m)^\d+ rows were confirmed by this run\n(.*\n)*loader: stopped$`},
			{"server between records", true, text.Len() - 10, `(?m)^\d+ rows were confirmed by this run\n(.*\n)*loader: stopped$`},
		} {
			t.Run(test.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE t (id INT8, s TEXT)")
				asked := make(chan struct{}, 10)
				var whole atomic.Bool
				files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked <- struct{}{}
					sent := test.sent
					if whole.Load() {
						sent = text.Len()
					}
					if sent > 0 {
						w.Header().Set("Content-Length", fmt.Sprint(text.Len()))
						io.WriteString(w, text.String()[:sent])
						w.(http.Flusher).Flush()
					}
					if sent < text.Len() {
						<-r.Context().Done()
					}
				}))
				defer files.Close()
				name := "-"
				if test.http {
					name = files.URL + "/rows.csv"
				}
				path := t.TempDir() + "/stderr"
				stderr, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				defer stderr.Close()
				cmd := exec.Command(mustLookPath("loader"), "csv", name, "--table", "t", "--header", "no", "--columns", "id,s", "--url", url)
				cmd.Stderr = stderr
				pipe, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				defer pipe.Close()
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if !test.http {
					go io.WriteString(pipe, text.String()[:test.sent])
				}
				switch {
				case test.sent > 0:
					loadertest.Eventually(t, "the first rows", func() bool {
						return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM t)")
					})
				case test.http:
					<-asked
				default:
					loadertest.Eventually(t, "a session of the load", func() bool {
						return loadertest.Value[bool](t, url, session)
					})
				}
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				hung := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
				defer hung.Stop()
				var exit *exec.ExitError
				if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
					t.Errorf("got %v, want exit code 130", err)
				}
				waitFor(t, path, test.says)
				if !test.http || test.sent == 0 {
					return
				}
				hint := waitFor(t, path, "resume with: loader loads resume [0-9a-z]+")
				whole.Store(true)
				mustRun(t, url, "loads", "resume", hint[strings.LastIndex(hint, " ")+1:])
				if got := loadertest.Value[string](t, url, "SELECT count(*)::TEXT || ' ' || count(DISTINCT id)::TEXT FROM t"); got != fmt.Sprintf("%d %[1]d", n) {
					t.Errorf("the table has %s rows and ids, want %d of both", got, n)
				}
			})
		}
	})
}
