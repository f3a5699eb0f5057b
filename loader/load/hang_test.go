//go:build unix

package load_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestFileThatHangs loads three files of which the second hangs, as on a mount that is gone, for
// which a pipe without a writer stands. The others are loaded, the error names the second, and
// when it answers again, the load is resumed. Where the order of the files counts, nothing behind
// the second is loaded before it.
func TestFileThatHangs(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, c := range []struct {
			name     string
			packed   bool
			conflict commit.Conflict
			in       string // the files that are in
		}{
			{"plain", false, "", "0 2"},
			{"packed", true, "", "0 2"},
			{"in order", false, commit.UpdateRow, "0"},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.name != "plain" {
					loadertest.Slow(t)
				}
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, f TEXT)")
				dir := t.TempDir()
				var names []string
				for i := range 3 {
					var text strings.Builder
					for row := range 30 {
						fmt.Fprintf(&text, "%d,%d\n", 100*i+row, i)
					}
					name := filepath.Join(dir, fmt.Sprintf("%d.csv", i))
					names = append(names, name)
					writeFile(t, name, text.String(), c.packed && i == 1)
				}
				req := fileRequest("t", names...)
				filesOf(req).Conflict = c.conflict
				filesOf(req).Input.IdleTimeout = time.Second
				req.Chunk, req.Workers = 10, 2
				l := newLoad(t, url, req)
				hung := names[1]
				if err := errors.Join(os.Rename(hung, hung+".away"), syscall.Mkfifo(hung, 0o600)); err != nil {
					t.Fatal(err)
				}
				_, err := l.Run(context.Background())
				if !errors.Is(err, loader.ErrHung) || failure.Of(err) != failure.GaveUp || !strings.Contains(err.Error(), hung+": the input does not answer: nothing arrived within 1s") {
					t.Errorf("the run ends with %v, want ErrHung for %s", err, hung)
				}
				in := "SELECT COALESCE(string_agg(f, ' ' ORDER BY f), '') FROM (SELECT DISTINCT f FROM t) AS x"
				if got := loadertest.Value[string](t, url, in); got != c.in {
					t.Errorf("files %q are in, want %q", got, c.in)
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != int64(30*len(strings.Fields(c.in))) {
					t.Errorf("%d rows are in", n)
				}
				l.Close()
				if f, err := os.OpenFile(hung, os.O_RDWR, 0); err == nil { // what was abandoned ends now
					f.Close()
				}
				if err := os.Rename(hung+".away", hung); err != nil {
					t.Fatal(err)
				}
				again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				if _, err := again.Run(context.Background()); err != nil {
					t.Error(err)
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != 90 {
					t.Errorf("%d rows are in, want 90", n)
				}
			})
		}
	})
}

func writeFile(t *testing.T, name, text string, packed bool) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if packed {
		z := gzip.NewWriter(f)
		_, err = z.Write([]byte(text))
		err = errors.Join(err, z.Close())
	} else {
		_, err = f.WriteString(text)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
