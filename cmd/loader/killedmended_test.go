package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestMendedAfterAKill kills the command in the middle of a file with a bad record behind, mends
// that record and adds others in front and at the end: each record is in once. Where a record
// that may be in was changed, the file is refused with its lines.
func TestMendedAfterAKill(t *testing.T) {
	loadertest.Slow(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
		var b strings.Builder
		const n = 6000
		for i := range n {
			fmt.Fprintf(&b, "%d,value %d\n", i, i)
		}
		mended := b.String()
		path := filepath.Join(t.TempDir(), "x.csv")
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(strings.Replace(mended, "\n5900,", "\nx,", 1))
		cmd := command(url, "csv", path, "--table", "t", "--header", "no", "--chunk", "50", "--workers", "2", "--rate", "1000", "--via", "insert")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		loadertest.Eventually(t, "some chunks", func() bool { return loadertest.Value[int64](t, url, "SELECT count(*) FROM t") >= 500 })
		cmd.Process.Kill()
		cmd.Wait()
		if killed := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); killed > n/2 {
			t.Fatalf("%d rows are in already", killed)
		}
		id := loads(t, url)[0].ID
		write(strings.Replace(mended, "\n7,value 7\n", "\n7,another\n", 1))
		if said := runTo(t, exitRefused, command(url, "loads", "resume", id)); !strings.Contains(said, "missing or changed") || !strings.Contains(said, "lines 1 to ") {
			t.Errorf("a record that is in was changed: %s", said)
		}
		write("10000,first\n" + mended + "10001,last\n")
		runTo(t, exitOK, command(url, "loads", "resume", id))
		if got := loadertest.Value[string](t, url, "SELECT concat_ws(' ', count(*)::TEXT, sum(id)::TEXT, count(DISTINCT v)::TEXT) FROM t"); got != fmt.Sprintf("%d %d %d", n+2, n*(n-1)/2+20001, n+2) {
			t.Errorf("the table has %s", got)
		}
		mustRun(t, url, "loads", "verify", id)
	})
}
