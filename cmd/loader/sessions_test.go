package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestKilledInAnotherTimeZone kills a load that was begun with settings in the environment,
// and goes on with it where they are others.
func TestKilledInAnotherTimeZone(t *testing.T) {
	const n = 6000
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		begun, resumed, verified := []string{"PGTZ=Europe/Berlin"}, []string{"PGTZ=UTC"}, []string{"PGTZ=America/New_York"}
		day := func(i int) string { return fmt.Sprintf("2024-%02d-%02d", i/12%12+1, i%12+1) }
		if !s.Cockroach { // of which 21.1 knows one style of dates
			begun, resumed = append(begun, "PGDATESTYLE=SQL, DMY"), append(resumed, "PGDATESTYLE=ISO, MDY", "PGOPTIONS=-c datestyle=ISO,YMD")
			day = func(i int) string { return fmt.Sprintf("%02d/%02d/2024", i%12+1, i/12%12+1) }
		}
		var text strings.Builder
		text.WriteString("id,at,day\n")
		for i := range n {
			fmt.Fprintf(&text, "%d,2024-01-%02d 12:00:00,%s\n", i, i%28+1, day(i))
		}
		path := filepath.Join(t.TempDir(), "t.csv")
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		url := registered(t, s)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, at TIMESTAMPTZ, day DATE)")
		in := func(env []string, cmd *exec.Cmd) *exec.Cmd {
			cmd.Env = append(os.Environ(), env...)
			return cmd
		}
		_, before := entered(t, url, 0)
		cmd := in(begun, command(url, "csv", path, "--table", "t", "--chunk", "100", "--rate", "1000", "--via", "copy", "--commit", "transaction"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		loadertest.Eventually(t, "the first rows", func() bool {
			return loadertest.Value[int](t, url, "SELECT count(*) FROM t") > 0
		})
		cmd.Process.Kill()
		cmd.Wait()
		if there := loadertest.Value[int](t, url, "SELECT count(*) FROM t"); !wasKilled(cmd) || there == n {
			t.Fatalf("not killed midway: %d rows are in", there)
		}
		id, _ := entered(t, url, before)
		runTo(t, exitOK, in(resumed, command(url, "loads", "resume", id, "--chunk", "777")))
		hour := loadertest.Value[int](t, url, "SELECT count(*) FROM t WHERE extract(hour FROM at AT TIME ZONE 'UTC') <> 11")
		month := loadertest.Value[int](t, url, "SELECT count(*) FROM t WHERE extract(day FROM day) <> id % 12 + 1")
		if there := loadertest.Value[int](t, url, "SELECT count(*) FROM t"); there != n || hour > 0 || month > 0 {
			t.Errorf("%d rows of %d; %d in another hour, %d in another month", there, n, hour, month)
		}
		runTo(t, exitOK, in(verified, command(url, "loads", "verify", id)))
	})
}
