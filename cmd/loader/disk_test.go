//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
)

// smallDisk mounts a disk of 64 KiB, or skips the test.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		loadertest.Skip(t, "a small disk needs root: mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// TestDiskOfTheFilesIsFull has no space for the files of points --out, nor for the reports
// of bench: one line says so, and no part of one is there.
func TestDiskOfTheFilesIsFull(t *testing.T) {
	dir := smallDisk(t)
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	bench := command(url, "bench", "--n", "50", "--chunks", "50", "--via", "insert", "--count", "1", "--html", filepath.Join(dir, "page.html"), "--out", filepath.Join(dir, "runs.txt"))
	for what, test := range map[string]struct {
		cmd  *exec.Cmd
		fill bool // before it runs: reports are small
		want string
	}{
		"points --out":             {exec.Command(mustLookPath("loader"), "points", "--n", "100000", "--streams", "2", "--out", filepath.Join(dir, "p-*.csv")), false, "loader: nothing was written: write "},
		"points --out, compressed": {exec.Command(mustLookPath("loader"), "points", "--n", "100000", "--out", filepath.Join(dir, "p.csv.gz")), false, "loader: nothing was written: write "},
		"bench":                    {bench, true, "loader: write " + filepath.Join(dir, "runs.txt")},
	} {
		full := filepath.Join(dir, "full")
		if test.fill {
			if err := os.WriteFile(full, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("a small disk takes a large file: %v", err)
			}
		}
		test.cmd.Stdout = nil
		var stderr strings.Builder
		test.cmd.Stderr = &stderr
		test.cmd.Run()
		said := stderr.String()
		if code := test.cmd.ProcessState.ExitCode(); code != exitTarget || strings.Count(said, "loader: ") != 1 || !strings.Contains(said, test.want) || !strings.HasSuffix(said, "no space left on device\n") {
			t.Errorf("%s: exit code %d: %s", what, code, said)
		}
		os.Remove(full)
		if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
			t.Errorf("%s leaves %v, %v", what, list, err)
		}
	}
}

// TestDiskOfTheClientIsFull has no space for the files of rejects, nor for the result. The
// rows are in, the command says what is missing, and the load, resumed when there is
// space, writes nothing to the server and all of the files.
func TestDiskOfTheClientIsFull(t *testing.T) {
	dir := smallDisk(t)
	var text strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, "%d\nbad %d%s\n", i, i, strings.Repeat("x", 50))
	}
	in := filepath.Join(t.TempDir(), "in.csv")
	if err := os.WriteFile(in, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8)")
	at := filepath.Join(dir, "out")
	out := runTo(t, exitStopped, command(url, "csv", in, "--table", "t", "--columns", "id", "--max-errors", "50%", "--rejects", at))
	if !strings.Contains(out, "no space left on device") || !strings.Contains(out, "loader.rejects") || !strings.Contains(out, "resume with: loader loads resume") {
		t.Errorf("on a full disk the command says: %s", out)
	}
	id := loads(t, url)[0].ID
	runTo(t, exitStopped, command(url, "loads", "resume", id, "--rejects", at))
	elsewhere := filepath.Join(t.TempDir(), "out")
	runTo(t, exitRejected, command(url, "loads", "resume", id, "--rejects", elsewhere))
	list, err := os.ReadFile(elsewhere + ".rejects.csv")
	if n := strings.Count(string(list), "bad"); err != nil || n != 3000 {
		t.Errorf("the file has %d rejects, %v; want 3000", n, err)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) + count(DISTINCT id) FROM t"); n != 6000 {
		t.Errorf("%d rows and distinct ids together, want 3000 of each", n)
	}

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, format := range []string{"text", "json"} {
		cmd := command(url, "points", "--n", "10", "--format", format)
		cmd.Stdout = full
		var stderr strings.Builder
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitStopped || !strings.Contains(stderr.String(), "the result could not be written: write /dev/stdout: no space left on device") {
			t.Errorf("--format %s into a full disk: %v: %s", format, err, stderr.String())
		}
	}
}
