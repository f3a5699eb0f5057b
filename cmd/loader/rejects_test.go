package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestOneDocument: with --format json stdout has one document, whatever the end, and that
// holds the error and the exit code.
func TestOneDocument(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, dir := s.NewDatabase(t), t.TempDir()
		in := filepath.Join(dir, "in.csv")
		if err := os.WriteFile(in, []byte("id\n1\nx\n3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY)", "CREATE TABLE u (id INT8 PRIMARY KEY)")
		for _, test := range []struct {
			args string
			code int
		}{
			{"csv " + in + " --table t --max-errors 1 --rejects " + filepath.Join(dir, "out"), exitRejected},
			{"csv " + in + " --table u", exitData},
			{"points --n 10", exitOK},
			{"points --n x", exitUsage},
			{"loads show nosuchid", exitRefused},
		} {
			cmd := command(url, append(strings.Fields(test.args), "--format", "json")...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, _ := cmd.Output()
			var doc struct {
				Load  string
				Error string
				Code  int `json:"exit_code"`
			}
			d := json.NewDecoder(bytes.NewReader(out))
			if err := d.Decode(&doc); err != nil || d.More() || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%s: stdout is no document: %v: %s", test.args, err, out)
			}
			code := cmd.ProcessState.ExitCode()
			if code != test.code || doc.Code != code || (doc.Error == "") != (code == exitOK) {
				t.Errorf("%s: exit code %d, want %d, and %+v: %s", test.args, code, test.code, doc, stderr.String())
			}
			if code == exitRejected && (doc.Load == "" || !strings.Contains(string(out), `"rejected":1`)) {
				t.Errorf("%s: it lacks the result: %s", test.args, out)
			}
		}
	})
}

// TestRejectsAreKept loads bad files with the same --rejects: nothing that stands in the files
// of an earlier load is lost, and a resume completes those of its own load.
func TestRejectsAreKept(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url, dir := s.NewDatabase(t), t.TempDir()
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8)")
	at, in := filepath.Join(dir, "out"), filepath.Join(dir, "in.csv")
	var ids []string
	for i := range 3 {
		if err := os.WriteFile(in, fmt.Appendf(nil, "id\n%d\nbad%d\n", i, i), 0o600); err != nil {
			t.Fatal(err)
		}
		runTo(t, exitRejected, command(url, "csv", in, "--table", "t", "--max-errors", "1", "--rejects", at, "--header", "yes"))
		ids = append(ids, loads(t, url)[0].ID)
	}
	check := func(path string, want string) {
		t.Helper()
		b, err := os.ReadFile(path + ".rejects.csv")
		if err != nil || string(b) != want {
			t.Errorf("%s has %q, %v; want %q", path, b, err, want)
		}
		if list, err := os.ReadFile(path + ".errors.csv"); err != nil || strings.Count(string(list), "\n") != 2 {
			t.Errorf("why is %q, %v", list, err)
		}
	}
	check(at, "id\nbad0\n")
	check(at+"-"+ids[1], "id\nbad1\n")
	check(at+"-"+ids[2], "id\nbad2\n")
	if list, err := filepath.Glob(filepath.Join(dir, "*out*")); err != nil || len(list) != 6 {
		t.Errorf("the files are %v, %v", list, err)
	}
	// A run that was stopped has written a part.
	if err := os.WriteFile(at+".rejects.csv", []byte("id\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+".errors.csv", []byte("file,line,byte,column,sqlstate,message\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runTo(t, exitRejected, command(url, "loads", "resume", ids[2], "--rejects", at))
	check(at, "id\nbad2\n")
}

// TestRejectsThatCannotBeWritten: nothing is loaded where the rejects would have no place.
func TestRejectsThatCannotBeWritten(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url, dir := s.NewDatabase(t), t.TempDir()
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8)")
	in := filepath.Join(dir, "in.csv")
	if err := os.WriteFile(in, []byte("id\n1\nbad\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken.errors.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		filepath.Join(dir, "none", "out"): "no such file or directory",
		filepath.Join(in, "out"):          "not a directory",
		filepath.Join(dir, "taken"):       "is not a file",
		"/proc/out":                       "cannot be written there",
		strings.Repeat("long", 100):       "name too long",
	} {
		for _, args := range [][]string{{"csv", in, "--table", "t", "--header", "yes", "--max-errors", "1"}, {"loads", "resume", "none"}} {
			said := runTo(t, exitUsage, command(url, append(args, "--rejects", path)...))
			if !strings.Contains(said, why) || !strings.Contains(said, "--rejects "+path) {
				t.Errorf("%s: %s, want %q", path, said, why)
			}
		}
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != 0 {
		t.Errorf("%d rows are in", n)
	}
	// A load that was begun elsewhere is resumed in a directory that takes no files.
	if err := os.WriteFile(in, []byte("id\n1\nbad\nworse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runTo(t, exitData, command(url, "csv", in, "--table", "t", "--header", "yes", "--max-errors", "1", "--rejects", filepath.Join(dir, "out")))
	resume := command(url, "loads", "resume", loads(t, url)[0].ID)
	resume.Dir = "/proc"
	if said := runTo(t, exitUsage, resume); !strings.Contains(said, "--rejects PATH names another place") {
		t.Errorf("the resumed load: %s", said)
	}
	runTo(t, exitData, command(url, "loads", "resume", loads(t, url)[0].ID, "--rejects", filepath.Join(dir, "out")))
	runTo(t, exitOK, command(url, "loads", "cancel", loads(t, url)[0].ID))
	if list, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	runTo(t, exitRejected, command(url, "csv", in, "--table", "t", "--header", "yes", "--max-errors", "2", "--rejects", filepath.Join(dir, "out")))
}
