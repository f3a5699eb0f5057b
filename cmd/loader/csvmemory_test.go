//go:build chaos && linux

package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// peakBytes runs the command, with the file stdin as its input if that has a name, and returns its exit code, its error output, and the most
// memory that it had. That is polled: what the parent is told at the end would count the
// parent's own, from before the command replaced it.
func peakBytes(t *testing.T, url, stdin string, args ...string) (code int, said string, peak int64) {
	t.Helper()
	cmd := command(url, args...)
	if stdin != "" {
		// As from a pipe: what is read is gone.
		cat := exec.Command("cat", stdin)
		var err error
		if cmd.Stdin, err = cat.StdoutPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cat.Start(); err != nil {
			t.Fatal(err)
		}
		defer cat.Wait()
		defer cat.Process.Kill()
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return cmd.ProcessState.ExitCode(), stderr.String(), peak
		case <-tick.C:
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if m := highWater.FindSubmatch(status); err == nil && m != nil {
				n, _ := strconv.ParseInt(string(m[1]), 10, 64)
				peak = n << 10
			}
		}
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// TestCSVMemoryIsFlat holds that no file and no dirt in it takes more than 64 MiB and a
// chunk for each worker.
func TestCSVMemoryIsFlat(t *testing.T) {
	const workers, chunk = 2, 4 << 20
	const bound = 64<<20 + workers*chunk
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	// fill makes a file of head and then text, again and again.
	fill := func(name, head, text string, size int) {
		f, err := os.Create(path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		block := bytes.Repeat([]byte(text), max(1<<20/len(text), 1))
		io.WriteString(f, head)
		for n := 0; n < size; n += len(block) {
			if _, err := f.Write(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill("plain.csv", "a,b,c\n", "1,\"name, of it\",some text\n", 128<<20)
	fill("quote.csv", "a,b,c\nd,\"e,f\n", "x", 256<<20)
	fill("quotelines.csv", "a,b,c\nd,\"e,f\n", "xxxxxxxx,yyyyyyyyyy,zzzzzzzzzzzzzz\n", 256<<20)
	fill("oneline.csv", "", "x", 256<<20)
	fill("dirt.csv", "a,b,c\n"+strings.Repeat("1,\xff,2\n", 50), "1,2\na,b,c\n\n\"a\"\"\n\",b,c\n", 2<<20)
	fill("short.csv", "a,b,c\n", "1,\"name, of it\",some text\n", 16<<20)
	fill("narrow.csv", "a,b,c\n", ",,\n", 24<<20)
	fill("longrecords.csv", "a,b,c\n1,2,3\n", "a,\""+string(bytes.Repeat([]byte("y\n"), 3<<19))+"\",c\n", 64<<20)
	for _, name := range []string{"plain.csv", "quote.csv"} {
		text, err := os.Open(path(name))
		if err != nil {
			t.Fatal(err)
		}
		z, err := os.Create(path(name + ".gz"))
		if err != nil {
			t.Fatal(err)
		}
		w, _ := gzip.NewWriterLevel(z, gzip.BestSpeed)
		if _, err := io.Copy(w, text); err != nil {
			t.Fatal(err)
		}
		w.Close()
		z.Close()
		text.Close()
	}
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		cases := []memoryCase{
			{"short.csv", exitOK, "file", nil},
			{"plain.csv", exitOK, "plan", nil},
			{"longrecords.csv", exitOK, "file", nil},
			{"quote.csv", exitData, "file", nil},
			{"quote.csv", exitData, "stdin", nil},
			{"quote.csv.gz", exitData, "file", nil},
			{"quote.csv", exitOK, "plan", nil},
			{"quotelines.csv", exitData, "file", nil},
			{"oneline.csv", exitData, "file", []string{"--header", "no"}},
			{"oneline.csv", exitData, "plan", []string{"--header", "no"}},
			{"oneline.csv", exitData, "stdin", []string{"--header", "no"}},
			{"quote.csv", exitRejected, "file", []string{"--max-errors", "99%", "--rejects", path("q")}},
		}
		if !s.Cockroach {
			// It takes these at a rate for which the test has no time.
			cases = append(cases, []memoryCase{
				{"longrecords.csv", exitOK, "bench", []string{"--count", "1", "--chunks", "20000"}},
				{"short.csv", exitOK, "verify", nil},
				{"plain.csv", exitOK, "file", nil},
				{"plain.csv", exitOK, "stdin", nil},
				{"plain.csv.gz", exitOK, "file", nil},
				{"plain.csv", exitOK, "file", []string{"--via", "insert"}},
				{"narrow.csv", exitOK, "file", []string{"--via", "insert"}},
				{"dirt.csv", exitRejected, "file", []string{"--max-errors", "100%", "--rejects", path("d")}},
			}...)
		}
		for _, c := range cases {
			url := s.NewDatabase(t)
			table := "CREATE UNLOGGED TABLE m (a TEXT, b TEXT, c TEXT)"
			if s.Cockroach {
				table = strings.Replace(table, "UNLOGGED ", "", 1)
			}
			loadertest.Exec(t, url, table)
			args, stdin := []string{"csv", path(c.file)}, ""
			switch c.from {
			case "plan":
				args = []string{"plan", "csv", path(c.file)}
			case "bench":
				args = []string{"bench", "csv", path(c.file)}
			case "stdin":
				args, stdin = []string{"csv", "-"}, path(c.file)
			}
			args = append(append(args, "--table", "m", "--workers", strconv.Itoa(workers)), c.args...)
			if s.Cockroach {
				args = append(args, "--via", "insert") // and not IMPORT
			}
			code, said, peak := peakBytes(t, url, stdin, args...)
			if c.from == "verify" {
				id := loadertest.Value[string](t, url, "SELECT id FROM loader.loads")
				code, said, peak = peakBytes(t, url, "", "loads", "verify", id)
			}
			t.Logf("%s, %s %v: exit %d, %d MiB", c.file, c.from, c.args, code, peak>>20)
			if code != c.code {
				t.Errorf("%s, %s %v: exit code %d, want %d: %s", c.file, c.from, c.args, code, c.code, said)
			}
			if peak > bound {
				t.Errorf("%s, %s %v: %d MiB, want at most %d", c.file, c.from, c.args, peak>>20, bound>>20)
			}
		}
	})
}

// A memoryCase is a file, how it comes in, and how that ends.
type memoryCase struct {
	file string
	code int
	from string // file, stdin, plan, which writes nothing, bench, or verify of a load
	args []string
}
