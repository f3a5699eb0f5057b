package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
)

// scratchTables counts the scratch tables of benchmarks.
const scratchTables = `SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'r' AND relname LIKE 'loader\_bench\_%'`

// startBench starts a benchmark that goes on for long, and waits until it has made
// several runs.
func startBench(t *testing.T, url string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := command(url, append([]string{"bench", "--n", "3000", "--chunks", "50", "--via", "copy", "--count", "1000", "--budget", "0s"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	loadertest.Eventually(t, "the tenth run", func() bool {
		return loadertest.Value[int64](t, url, scratchTables+` AND relname LIKE '%\_1_'`) > 0
	})
	return cmd, &out
}

// checkNothingOfBench holds that neither a scratch table nor a record is there.
func checkNothingOfBench(t *testing.T, url string) {
	t.Helper()
	if n := loadertest.Value[int64](t, url, scratchTables); n != 0 {
		t.Errorf("%d scratch tables are left", n)
	}
	if list := loads(t, url); len(list) != 0 {
		t.Errorf("records are left: %v", list)
	}
}

// TestBenchIsInterrupted: Ctrl-C keeps what was measured and draws it; so does a second
// one, which does not wait for the running chunks.
func TestBenchIsInterrupted(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for name, times := range map[string]int{"once": 1, "twice": 2} {
			if times == 2 && !loadertest.Chaos {
				continue
			}
			t.Run(name, func(t *testing.T) {
				url := s.NewDatabase(t)
				page := filepath.Join(t.TempDir(), "page.html")
				cmd, out := startBench(t, url, "--html", page)
				for range times {
					cmd.Process.Signal(syscall.SIGINT)
				}
				cmd.Wait()
				if code := cmd.ProcessState.ExitCode(); code != 130 {
					t.Errorf("exit code %d, want 130:\n%s", code, out)
				}
				if !strings.Contains(out.String(), "; stopped\n") || !strings.Contains(out.String(), "ROWS/S") {
					t.Errorf("it does not say what was measured:\n%s", out)
				}
				if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), `<svg class="chart"`) {
					t.Errorf("nothing is drawn: %v", err)
				}
				checkNothingOfBench(t, url)
			})
		}
	})
}

// TestBenchIsKilled: what kill -9 leaves, the next benchmark removes.
func TestBenchIsKilled(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url, dir := s.NewDatabase(t), t.TempDir()
		page := filepath.Join(dir, "page.html")
		for {
			cmd, _ := startBench(t, url, "--html", page)
			cmd.Process.Kill()
			cmd.Wait()
			if !wasKilled(cmd) {
				t.Fatal("the benchmark was over before it was killed")
			}
			if list := hiddenFiles(t, dir); len(list) != 1 {
				t.Fatalf("beside the page there are %q, want what was killed", list)
			}
			if loadertest.Value[int64](t, url, scratchTables) > 0 {
				break // else it was killed between two runs
			}
		}
		// Its sessions end when the server finds them gone.
		loadertest.Eventually(t, "a benchmark that removes what is left", func() bool {
			mustRun(t, url, "bench", "--n", "100", "--chunks", "50", "--via", "insert", "--count", "1", "--html", page)
			return loadertest.Value[int64](t, url, scratchTables) == 0
		})
		checkNothingOfBench(t, url)
		if list := hiddenFiles(t, dir); len(list) != 0 {
			t.Errorf("left beside the page: %q", list)
		}
	})
}

// TestOutIsKilled kills the command while it writes files: what is there has another name
// and is its owner's alone, and the next that writes these files leaves no other.
func TestOutIsKilled(t *testing.T) {
	dir := t.TempDir()
	out := func(rows string) *exec.Cmd {
		cmd := exec.Command(mustLookPath("loader"), "points", "--n", rows, "--streams", "2", "--out", filepath.Join(dir, "p-*.csv"))
		cmd.Env = append(os.Environ(), "LOADER_URL=postgres://nobody@nowhere.invalid/x?sslmode=disable") // of other commands
		return cmd
	}
	cmd := out("1_000_000_000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	loadertest.Eventually(t, "two files", func() bool { return len(hiddenFiles(t, dir)) == 2 })
	cmd.Process.Kill()
	if cmd.Wait(); !wasKilled(cmd) {
		t.Fatal("the command was over before it was killed")
	}
	for _, path := range hiddenFiles(t, dir) {
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	runTo(t, exitOK, out("10"))
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 || list[0].Name() != "p-1.csv" || list[1].Name() != "p-2.csv" {
		t.Errorf("the directory has %v, %v", list, err)
	}
}

// hiddenFiles lists the files of a directory whose names begin with a point.
func hiddenFiles(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
