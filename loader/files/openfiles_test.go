//go:build unix

package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// TestFewFilesAreOpen reads many small files, by several workers, while nothing is
// collected as garbage: files that nobody reads from are closed, and those in use are not.
func TestFewFilesAreOpen(t *testing.T) {
	const count = 4 * files.MaxOpenFiles
	dir := t.TempDir()
	names := make([]string, count)
	for i := range names {
		names[i] = filepath.Join(dir, fmt.Sprintf("%04d.csv", i))
		if err := os.WriteFile(names[i], fmt.Appendf(nil, "%d,a\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := files.NewInput(strings.NewReader(""))
	list, err := in.Inspect(context.Background(), names, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &files.CSV{
		Files: list, Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 2, Input: in,
		Cols: []rows.Column{{Name: "a", Kind: rows.Text}}, Fields: []int{0},
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := descriptors(t)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			c := rows.NewChunk(s.Cols)
			for k := range count {
				f := &s.Files[(k*(2*w+1)+w)%count] // each in another order
				cut := s.Cut(chunker.Range{First: f.First, End: f.End()})
				span, err := cut.Next(10)
				if err == nil {
					err = s.Fill(c, span)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got, _ := c.Col(0).Text(0); filepath.Base(f.Name) != fmt.Sprintf("%04s.csv", got) {
					t.Errorf("%s holds %s", f.Base(), got)
					return
				}
			}
		})
	}
	workers.Wait()
	if n := descriptors(t) - before; n > files.MaxOpenFiles {
		t.Errorf("%d files are open after %d were read, want at most %d", n, count, files.MaxOpenFiles)
	}
	s.Close()
	if n := descriptors(t) - before; n > 0 {
		t.Errorf("%d files are open after Close", n)
	}
}

// descriptors returns the number of files that this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
