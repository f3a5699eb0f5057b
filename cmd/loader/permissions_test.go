//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// TestPermissionsWhateverTheUmask looks at every file and socket that commands leave or use:
// others than their owner can neither read nor enter.
func TestPermissionsWhateverTheUmask(t *testing.T) {
	for _, product := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(product.String(), func(t *testing.T) {
			binary := loadertest.Binary(t, product)
			umasks := []string{"000"} // which hides nothing
			switch {
			case loadertest.Chaos:
				umasks = append(umasks, "022", "077")
			case product == server.CockroachDB:
				loadertest.Long(t)
			}
			for _, umask := range umasks {
				t.Run(umask, func(t *testing.T) { checkPermissions(t, binary, umask) })
			}
		})
	}
}

// checkPermissions runs commands that leave or use files of each kind with a private server.
func checkPermissions(t *testing.T, binary localdb.Binary, umask string) {
	p := newPlace(t)
	in := filepath.Join(p.tmp, "in.txt")
	if err := os.WriteFile(in, []byte("1\n2\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(code int, command string) {
		t.Helper()
		cmd := p.command("", "sh", "-c", "umask "+umask+"; exec "+command)
		if binary.Product == server.CockroachDB {
			cmd.Env = append(cmd.Env, "COCKROACH_BINARY="+binary.Path)
		}
		runTo(t, code, cmd)
	}
	defer run(exitOK, "loader db stop")
	run(exitOK, "loader db start")
	run(exitOK, "loader db sql --database postgres 'CREATE DATABASE files'")
	run(exitOK, "loader db sql --database files 'CREATE TABLE t (id INT8 PRIMARY KEY)'")
	run(exitRejected, "loader csv in.txt --table t --columns id --max-errors 1")
	run(exitOK, "loader points --n 10 --out points.out")
	seen := map[string]bool{}
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == p.dir || path == p.tmp || path == in {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // it has gone
		}
		name := filepath.Base(path)
		seen[filepath.Ext(name)+map[bool]string{true: "socket"}[info.Mode()&fs.ModeSocket != 0]] = true
		if path == p.db { // holds one directory for each server, and nothing else
			return nil
		}
		perm := info.Mode().Perm()
		switch { // what CockroachDB writes is its own affair, behind the mode of its directory
		case binary.Product == server.CockroachDB && (name == "pid" || name == "url"):
		case binary.Product == server.CockroachDB && name == "data":
			return fs.SkipDir
		case perm&0o077 != 0:
			t.Errorf("%s has mode %04o", strings.TrimPrefix(path, p.dir), perm)
		case name == "data":
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".csv", ".out", ".log", ".json"}
	if binary.Product == server.PostgreSQL {
		want = append(want, ".5432socket")
	}
	for _, kind := range want {
		if !seen[kind] {
			t.Errorf("no %s was looked at; %v", kind, seen)
		}
	}
}
