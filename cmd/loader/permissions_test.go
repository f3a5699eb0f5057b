//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/exec"
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
	if _, err := localdb.FindProduct(server.PostgreSQL); err != nil {
		t.Skip(err)
	}
	umasks := []string{"000"}
	if loadertest.Chaos {
		umasks = []string{"000", "022", "077"}
	}
	for _, umask := range umasks {
		dir, err := os.MkdirTemp("", "lp")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/in.csv", []byte("1\n2\nx\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		run := func(wantFailure bool, command string) {
			t.Helper()
			cmd := exec.Command("sh", "-c", "umask "+umask+"; exec "+command)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "LOADER_DB_DIR="+dir+"/db", "LOADER_URL=", "COCKROACH_BINARY=", "PATH="+filepath.Dir(mustLookPath("loader"))+":/usr/bin:/bin")
			if out, err := cmd.CombinedOutput(); (err != nil) != wantFailure {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
		}
		run(false, "loader db start")
		run(false, "loader db sql --database postgres 'CREATE DATABASE files'")
		run(false, "loader db sql --database files 'CREATE TABLE t (id INT8 PRIMARY KEY)'")
		run(true, "loader csv in.csv --table t --columns id --max-errors 1") // exit code 8
		seen := map[string]bool{}
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == dir || path == dir+"/in.csv" {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return nil // it has gone
			}
			name := filepath.Base(path)
			seen[filepath.Ext(name)+map[bool]string{true: "socket"}[info.Mode()&fs.ModeSocket != 0]] = true
			if path == dir+"/db" { // holds one directory for each server, and nothing else
				return nil
			}
			if perm := info.Mode().Perm(); perm&0o077 != 0 {
				t.Errorf("umask %s: %s has mode %04o", umask, strings.TrimPrefix(path, dir), perm)
			}
			if d.IsDir() {
				if name == "data" { // the server's own affair, behind this one's mode
					return fs.SkipDir
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		run(false, "loader db stop")
		for _, kind := range []string{".csv", ".log", ".5432socket", ".json"} {
			if !seen[kind] {
				t.Errorf("umask %s: no %s was looked at; %v", umask, kind, seen)
			}
		}
	}
}
