//go:build unix

package load_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// upgrade stops a server of PostgreSQL and goes on with its data and its address in a newer
// version, by pg_upgrade.
func upgrade(t *testing.T, db *localdb.DB) {
	t.Helper()
	b := loadertest.Binary(t, server.PostgreSQL)
	bin := b.Path
	major, _, _ := strings.Cut(b.Version, ".")
	loadertest.Program(t, bin, "pg_upgrade")
	info, err := os.Stat(filepath.Join(db.Dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	dir, err := os.MkdirTemp("", "upgrade")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// What was fetched of the old version lacks two programs. Their file, pg_control, has the same
	// format in both versions, but pg_resetwal wants its own number in PG_VERSION: it only prints
	// here, from a copy that says so.
	old := filepath.Join(dir, "old")
	if err := os.Mkdir(old, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"postgres": db.Path, "pg_ctl": db.Path, "initdb": db.Path, "pg_controldata": bin} {
		if err := os.Symlink(filepath.Join(from, name), filepath.Join(old, name)); err != nil {
			t.Fatal(err)
		}
	}
	real := filepath.Join(bin, "pg_resetwal")
	shim := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" != -n ]; then exec %[1]s \"$@\"; fi\nd=$(mktemp -d) && mkdir $d/global && cp \"$2/global/pg_control\" $d/global && ln -s \"$2/pg_wal\" $d/pg_wal\n"+
		"sed 's/.*/%[2]s/' \"$2/PG_VERSION\" >$d/PG_VERSION && %[1]s -n $d\ncode=$?\nrm -rf $d\nexit $code\n", real, major)
	if err := os.WriteFile(filepath.Join(old, "pg_resetwal"), []byte(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	command := func(name string, args ...string) *osexec.Cmd {
		cmd := osexec.Command(filepath.Join(bin, name), args...)
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		}
		return cmd
	}
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s (%v)", name, out, err)
		}
	}
	u, err := url.Parse(db.TCP)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	data := filepath.Join(dir, "data")
	run("initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256")
	if err := db.Halt(context.Background()); err != nil {
		t.Fatal(err)
	}
	run("pg_upgrade", "-b", old, "-B", bin, "-d", filepath.Join(db.Dir, "data"), "-D", data, "-U", "postgres", "-s", dir)
	cmd := command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "port="+u.Port(), "-c", "fsync=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
	})
	loadertest.Eventually(t, "the new version", func() bool {
		return command("pg_isready", "-q", "-h", "127.0.0.1", "-p", u.Port()).Run() == nil
	})
}

// TestServerOfAnotherVersion goes on with loads at a server that was upgraded from PostgreSQL 14
// meanwhile: one that waits for it, and one that is resumed.
func TestServerOfAnotherVersion(t *testing.T) {
	loadertest.Slow(t)
	s, db := loadertest.OwnPostgreSQL(t, 14)
	const n = 20_000
	list := few(subjects(s))
	// Not NewDatabase, which drops it: the server is no longer the test's own by then.
	loadertest.Exec(t, s.URL(), "CREATE DATABASE stopped", "CREATE DATABASE waits")
	urls := []string{strings.Replace(s.URL(), nameOf(s.URL()), "/stopped?", 1), strings.Replace(s.URL(), nameOf(s.URL()), "/waits?", 1)}
	var trials [2]*trial
	stop, half := make(chan struct{}), make(chan struct{})
	for i, sub := range list {
		sub.makeTable(t, urls[i])
		sub.Workers, sub.RetryFor = 1, 5*time.Minute
		if i == 0 {
			sub.Stop = stop
			sub.Observe = once(n/2, func() { close(stop) })
		} else {
			var called sync.Once
			sub.Observe = once(n/2, func() { called.Do(func() { close(half) }) })
			sub.Rate = 5000
		}
		trials[i] = sub.startDirect(t, urls[i], n)
	}
	if res, err := trials[0].wait(); err == nil || res.Rows >= n {
		t.Errorf("it was to be stopped: %d rows, %v", res.Rows, err)
	}
	<-half
	upgrade(t, db)
	if was, is := db.Version, loadertest.Value[string](t, urls[0], "SHOW server_version_num"); is[:2] == was[:2] {
		t.Fatalf("it is %s still", is)
	}
	again, err := load.Resume(context.Background(), loadertest.Open(t, urls[0]), trials[0].ID, load.Settings{Input: files.NewInput(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Run(context.Background()); err != nil {
		t.Error(err)
	}
	trials[1].mustEnd(t)
	for i, sub := range list {
		sub.exact(t, urls[i], trials[i].Load, n)
	}
}
