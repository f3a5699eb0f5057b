package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

var (
	block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	// What differs from run to run and machine to machine: numbers, ids, paths,
	// and which PostgreSQL it is.
	varies = regexp.MustCompile(`load [0-9a-z]{8}|verify [0-9a-z]{8}|data in \S+|at /\S+?,|PostgreSQL [0-9.]+( \([^)]*\)[^)]*\))?( \(\S+\))?|[0-9]+(\.[0-9]+)?`)
)

// TestReadme runs the README's blocks: those marked sh as they stand, those marked
// console command by command, comparing what each prints.
func TestReadme(t *testing.T) {
	loadertest.Binary(t, server.PostgreSQL)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "loader-readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The session is a machine's without cockroach: the binary does not exist, so
	// that PATH need not lose its directory.
	shell := func(command string) string {
		// This test is a part of the README's test command.
		command = strings.ReplaceAll(command, "go test ./...", "true")
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", command)
		cmd.Dir = root
		gobin := filepath.Join(dir, "gobin")
		cmd.Env = append(os.Environ(), "LOADER_DB_DIR="+filepath.Join(dir, "db"), "LOADER_URL=", "GOBIN="+gobin,
			"PATH="+gobin+string(os.PathListSeparator)+withoutCockroach(t, dir))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.WaitDelay = 10 * time.Second
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out.String())
		}
		return out.String()
	}
	blocks := 0
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		switch m[1] {
		case "sh":
			shell(m[2])
			shell(mustLookPath("loader") + " db remove")
			blocks++
		case "console":
			session(t, m[2], shell)
			blocks++
		}
	}
	if blocks < 2 {
		t.Errorf("%d blocks were run; the README has more", blocks)
	}
}

// session runs the commands of a console block and compares their output.
func session(t *testing.T, text string, shell func(string) string) {
	t.Helper()
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "$ "), "\n$ ") {
		command, want, _ := strings.Cut(part, "\n")
		got := shell(command)
		// stdout and stderr are one stream here; the private database's
		// lines differ by what is installed.
		if g, w := general(got), general(want); g != w {
			t.Errorf("$ %s prints\n%s\nand the README says\n%s", command, g, w)
		}
	}
}

// general replaces what varies.
func general(s string) string {
	return varies.ReplaceAllString(strings.TrimSpace(s), "…")
}

// withoutCockroach returns a PATH whose directories have no cockroach: that of a
// directory of links to all other programs, where PATH has one.
func withoutCockroach(t *testing.T, dir string) string {
	t.Helper()
	links := filepath.Join(dir, "bin")
	if err := os.MkdirAll(links, 0o755); err != nil {
		t.Fatal(err)
	}
	var keep []string
	for _, d := range filepath.SplitList(os.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(d, "cockroach")); err != nil {
			keep = append(keep, d)
			continue
		}
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "cockroach" {
				os.Symlink(filepath.Join(d, e.Name()), filepath.Join(links, e.Name())) // there from the block before
			}
		}
	}
	return strings.Join(append(keep, links), string(os.PathListSeparator))
}
