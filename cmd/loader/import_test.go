package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// checkImported fails the test unless the load is complete and exact, and nothing of it is
// left but its rows.
func checkImported(t *testing.T, url, id string, rows int64) {
	t.Helper()
	out := mustRun(t, url, "loads", "verify", id)
	if want := fmt.Sprintf("%d of %d rows match the seed, 0 changed, 0 missing, 0 other rows (not from this load)", rows, rows); !strings.Contains(out, want) {
		t.Errorf("got %q, want %q", out, want)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != rows {
		t.Errorf("the table has %d rows, want %d", n, rows)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.claims"); n != 0 {
		t.Errorf("%d claims are left", n)
	}
	if loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW TABLES] WHERE table_name = 'userfiles_root_upload_files'") > 0 {
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM userfiles_root_upload_files"); n != 0 {
			t.Errorf("%d uploaded files are left", n)
		}
	}
}

// The loader is killed at ten points of the life of its job; the resumed one brings all
// rows, each once.
func TestKilledImports(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	for _, mode := range []string{"serve", "upload"} {
		t.Run(mode, func(t *testing.T) {
			if mode != "serve" {
				loadertest.Long(t)
			}
			url := s.NewDatabase(t)
			rows := int64(60_000)
			args := []string{"points", "--n", fmt.Sprint(rows), "--via", "import", "--handoff", mode}
			start := time.Now()
			mustRun(t, url, args...)
			whole := time.Since(start)
			points := 1
			if loadertest.Chaos {
				points = 10
			}
			for i := range points {
				loadertest.Exec(t, url, "TRUNCATE points")
				before := len(loads(t, url))
				cmd := command(url, args...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				timer := time.AfterFunc(whole*time.Duration(i+1)/time.Duration(points+1), func() { cmd.Process.Kill() })
				cmd.Wait()
				timer.Stop()
				list := loads(t, url)
				if len(list) == before {
					continue // killed before it was entered
				}
				mustRun(t, url, "loads", "resume", list[0].ID)
				checkImported(t, url, list[0].ID, rows)
			}
		})
	}
}

// A job is paused and cancelled by commands that know nothing but the load's id.
func TestPauseAndCancelFromElsewhere(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	cmd := command(url, "points", "--n", "600000", "--via", "import")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	loadertest.Eventually(t, "a job", func() bool {
		return loadertest.Value[int64](t, url, "SELECT count(*) FROM [SHOW TABLES] WHERE schema_name = 'loader' AND table_name = 'tuning'") > 0 &&
			loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
	})
	id := loads(t, url)[0].ID
	pause := command(url, "loads", "pause", id, "--format", "json")
	if out, err := pause.CombinedOutput(); !strings.Contains(string(out), "has succeeded before") && (err != nil || !strings.Contains(string(out), `{"load":"`+id+`","job":`)) {
		t.Fatalf("pause: %v: %s", err, out)
	}
	out := mustRun(t, url, "loads", "cancel", id)
	if !strings.Contains(out, "cancelled load "+id) && !strings.Contains(out, "is complete") {
		t.Errorf("got %q", out)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code == 0 {
		return // it was done before the pause
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	again := command(url, "loads", "resume", id)
	if again.Run(); again.ProcessState.ExitCode() != exitRefused {
		t.Errorf("a cancelled load is resumed: exit code %d", again.ProcessState.ExitCode())
	}
}

// What --out writes can be imported from where it lies, and the load knows its rows.
func TestOutAndImportFromURLs(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	dir := t.TempDir()
	cmd := command(url, "points", "--n", "30000", "--seed", "11", "--streams", "3", "--out", dir+"/p-*.csv.gz")
	cmd.Args = cmd.Args[:len(cmd.Args)-3] // without --url
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files := serveDir(t, dir)
	args := []string{"points", "--n", "30000", "--seed", "11", "--streams", "3", "--via", "import", "--handoff"}
	mustRun(t, url, append(args, files+"/p-*.csv.gz")...)
	checkImported(t, url, loads(t, url)[0].ID, 30_000)

	// Twice is refused, and what is not there named.
	again := command(url, append(args, files+"/p-*.csv.gz")...)
	if out, _ := again.CombinedOutput(); again.ProcessState.ExitCode() != exitTarget || !strings.Contains(string(out), "may be loaded already") {
		t.Errorf("the same files twice: exit code %d: %s", again.ProcessState.ExitCode(), out)
	}
	loadertest.Exec(t, url, "TRUNCATE points")
	missing := command(url, append(args, files+"/none-*.csv")...)
	out, _ := missing.CombinedOutput()
	if missing.ProcessState.ExitCode() == 0 || !strings.Contains(string(out), "none-1.csv") && !strings.Contains(string(out), "not exist") {
		t.Errorf("files that are not there: exit code %d: %s", missing.ProcessState.ExitCode(), out)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// jobNumber is how output names a job.
var jobNumber = regexp.MustCompile(`job [0-9]+`)

// serveDir serves the files of a directory as a web server does, and returns its address.
func serveDir(t *testing.T, dir string) string {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}
