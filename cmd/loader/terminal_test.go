//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestClosedPipe has nobody read what the command writes: it does its work to the end all the
// same, says so in its exit code and, where it can, in words, and leaves no server behind.
func TestClosedPipe(t *testing.T) {
	loadertest.Binary(t, server.PostgreSQL)
	p := newPlace(t)
	const load = "loader points --n 3000 --chunk 10"
	for _, test := range []struct {
		name, command, want string
		code                int
	}{
		{"control", load + " | cat >/dev/null", "target: ", exitOK},
		{"result", load + " | true", "\nloader: the result could not be written: ", exitStopped},
		{"messages", load + " 2>&1 >/dev/null | true", "", exitStopped},
		{"both", load + " 2>&1 | head -1", "local database: ", exitStopped},
		{"list of loads", "loader loads list --quiet | true", "loader: the result could not be written: ", exitStopped},
	} {
		if test.name != "both" && !loadertest.Chaos {
			continue // a private server takes its time
		}
		// The reader is gone before the first byte.
		gone := filepath.Join(p.tmp, "gone")
		line := test.command
		if left, ok := strings.CutSuffix(line, "| true"); ok {
			line = "{ until [ -e " + gone + " ]; do sleep 0.01; done; " + left + "; } | { exec <&-; echo >" + gone + "; }"
		}
		said := runTo(t, test.code, p.command("", "bash", "-c", line+"; exit ${PIPESTATUS[0]}"))
		os.Remove(gone)
		if !strings.Contains(said, test.want) {
			t.Errorf("%s: it says %q, want %q", test.name, said, test.want)
		}
		p.checkEmpty(t)
		if strings.HasPrefix(test.name, "result") {
			p.typeHint(t, "", said)
		}
	}
	out, err := p.command("", "loader", "loads", "list", "--format", "json", "--quiet").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []loadJSON
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{false: 1, true: 4}[loadertest.Chaos]; len(list) != want {
		t.Errorf("got %d loads, want %d: %s", len(list), want, out)
	}
	for _, l := range list {
		if l.State != "done" || l.In != 3000 {
			t.Errorf("load %s is %s with %d rows", l.ID, l.State, l.In)
		}
	}
}

// TestHangupThatIsIgnored: under nohup the end of the terminal is none of the command.
func TestHangupThatIsIgnored(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	p, url := newPlace(t), s.NewDatabase(t)
	cmd := p.command(url, "sh", "-c", "trap '' HUP; exec loader points --n 2000 --chunk 100 --rate 2000")
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
	waitFor(t, path, "target: ")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitOK {
		b, _ := os.ReadFile(path)
		t.Errorf("exit code %d: %s", code, b)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 2000 {
		t.Errorf("%d rows are in", n)
	}
}
