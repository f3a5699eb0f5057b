package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkload/loader/loadertest"
)

// TestImportResumesByItsURLs has a file arrive after the load that names it: the URLs are
// in the record, where nothing in them gives access, and need not be named again.
func TestImportResumesByItsURLs(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	dir := t.TempDir()
	out := exec.Command(mustLookPath("loader"), "points", "--n", "1000", "--seed", "3", "--quiet", "--out", filepath.Join(dir, "p.csv"))
	if text, err := out.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	late := filepath.Join(dir, "late.csv")
	if err := os.Rename(filepath.Join(dir, "p.csv"), late); err != nil {
		t.Fatal(err)
	}
	early := command(url, "points", "--n", "1000", "--seed", "3", "--via", "import", "--handoff", serveDir(t, dir)+"/p.csv")
	if text, _ := early.CombinedOutput(); early.ProcessState.ExitCode() != exitData {
		t.Fatalf("exit code %d: %s", early.ProcessState.ExitCode(), text)
	}
	id := loads(t, url)[0].ID
	if err := os.Rename(late, filepath.Join(dir, "p.csv")); err != nil {
		t.Fatal(err)
	}
	mustRun(t, url, "loads", "resume", id)
	checkImported(t, url, id, 1000)
}
