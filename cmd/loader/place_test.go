package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// A place is what a command that is stopped finds on its machine: all that it may leave
// behind is in it.
type place struct{ dir, tmp, db string }

// newPlace makes a place that other users can enter, since PostgreSQL does not run as root.
func newPlace(t *testing.T) place {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := place{dir, filepath.Join(dir, "tmp"), filepath.Join(dir, "db")}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(p.tmp, 0o777), os.Chmod(p.tmp, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	return p
}

// command returns the command in its place. Without a URL it has a private PostgreSQL.
func (p place) command(url string, words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = p.tmp
	cmd.Env = append(os.Environ(), "LOADER_URL="+url, "LOADER_DB_DIR="+p.db, "TMPDIR="+p.tmp, "COCKROACH_BINARY=",
		"PATH="+filepath.Dir(mustLookPath("loader"))+":/usr/bin:/bin")
	return cmd
}

// checkEmpty fails the test unless everything is gone but the data of a private server:
// processes, sockets, temporary files.
func (p place) checkEmpty(t *testing.T) {
	t.Helper()
	loadertest.Eventually(t, "no process of the private server", func() bool {
		found, _ := exec.Command("pgrep", "-f", p.dir).Output()
		return len(found) == 0
	})
	if entries, err := os.ReadDir(p.tmp); err != nil || len(entries) > 0 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
	found, err := filepath.Glob(filepath.Join(p.db, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, _ := filepath.Glob(filepath.Join(p.db, "*", ".*"))
	for _, path := range append(found, hidden...) {
		switch filepath.Base(path) {
		case "data", "server.log", "start.lock", "users.lock":
		default:
			t.Errorf("left beside the data: %q", path)
		}
	}
}

// interrupted starts the command, has something happen when it is ready, and waits for its
// end with an exit code and a reason of one line. It returns what the command said; happen
// is given the file of that.
func interrupted(t *testing.T, cmd *exec.Cmd, code int, ready func() bool, happen func(stderr string)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	defer func() { cmd.Process.Kill(); <-ended }()
	waitFor(t, path, "target: ")
	loadertest.Eventually(t, "a command that is at work", ready)
	happen(path)
	loadertest.Eventually(t, "the end of the command", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	said := string(b)
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d: %s", got, code, said)
	}
	if n := strings.Count(said, "\nloader: "); n != 1 {
		t.Errorf("the reason takes %d lines, want 1: %s", n, said)
	}
	return said
}

// typeHint types what the command said it goes on with, and returns the load's id.
func (p place) typeHint(t *testing.T, url, said string) string {
	t.Helper()
	_, hint, ok := strings.Cut(said, "\nresume with: ")
	hint, _, _ = strings.Cut(hint, "\n")
	if !ok || !strings.HasPrefix(hint, "loader loads resume ") {
		t.Fatalf("nothing says how to go on: %s", said)
	}
	runTo(t, exitOK, p.command(url, "sh", "-c", hint))
	return strings.Fields(hint)[3]
}
