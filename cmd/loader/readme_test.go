package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

var (
	block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	// What differs from run to run and machine to machine: numbers, ids, paths,
	// and which PostgreSQL it is.
	varies = regexp.MustCompile(`load [0-9a-z]{8}|verify [0-9a-z]{8}|data in \S+|at /\S+?,|PostgreSQL [0-9.]+( \([^)]*\)[^)]*\))?( \(\S+\))?|[0-9]+(\.[0-9]+)?`)
)

// TestReadme runs the blocks of the README and of the pages: those marked sh as they stand, those marked
// console command by command, comparing what each prints.
func TestReadme(t *testing.T) {
	loadertest.Binary(t, server.PostgreSQL)
	root, err := filepath.Abs(filepath.Join("..", ".."))
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
	for _, page := range pages(t, root) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
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
	}
	if blocks < 2 {
		t.Errorf("%d blocks were run; the README has more", blocks)
	}
}

// pages returns the README and the pages beside the packages, relative to root.
func pages(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			list = append(list, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var (
	link = regexp.MustCompile(`\]\(([^)#]+)\)|src="([^"]+)"|srcset="([^"]+)"`)
	// A command of ours in a block or in a line of text.
	ours      = regexp.MustCompile(`loader (points|accounts|csv|rows|transfer|count|init|plan|bench|loads|db) [^\n|]*`)
	aFlag     = regexp.MustCompile(`(?:^|\s|'|\x60)--([a-z][a-z-]*)`)
	measuring = regexp.MustCompile(`\./testdata/bench/[a-z]+`)
)

// TestPages follows the links of every page: they lead to files that are there, and from the
// README to each page. The measuring programs that pages name are there too, and so are the
// flags.
func TestPages(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"help": true, "version": true}
	var learn func(list []*cli.Command)
	learn = func(list []*cli.Command) {
		for _, c := range list {
			learn(c.Subcommands)
			for _, f := range c.Flags {
				for _, n := range f.Names() {
					known[n] = true
				}
			}
		}
	}
	learn((&program{}).app().Commands)
	linked := map[string]bool{"README.md": true, filepath.Join("testdata", "csv", "SOURCES.md"): true}
	list := pages(t, root)
	for _, page := range list {
		b, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := m[1] + m[2] + m[3]
			if strings.Contains(to, "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(page), to)
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", page, to, err)
			}
			linked[target] = true
		}
		for _, p := range measuring.FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join(root, p)); err != nil {
				t.Errorf("%s names a program: %v", page, err)
			}
		}
		for _, command := range ours.FindAllString(text, -1) {
			for _, m := range aFlag.FindAllStringSubmatch(command, -1) {
				if !known[m[1]] {
					t.Errorf("%s: no command has --%s: %s", page, m[1], command)
				}
			}
		}
	}
	for _, page := range list {
		if !linked[page] {
			t.Errorf("nothing links to %s", page)
		}
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
