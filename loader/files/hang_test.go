//go:build unix

package files_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// TestFileThatHangs has one of two files hang at its opening, as on a mount that is gone, for
// which a pipe without a writer stands: the other is read meanwhile, and Interrupt ends the
// reading and the cutting of the one that hangs.
func TestFileThatHangs(t *testing.T) {
	dir := t.TempDir()
	hung, well := filepath.Join(dir, "hung"), filepath.Join(dir, "well")
	if err := syscall.Mkfifo(hung, 0o600); err != nil {
		t.Fatal(err)
	}
	text := []byte("1,2\n3,4\n")
	if err := os.WriteFile(well, text, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(well)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(text))
	src := &files.CSV{
		Files: []files.File{
			{Name: hung, Size: n, Bytes: n},
			{Name: well, First: n, Size: n, Bytes: n, Modified: info.ModTime()},
		},
		Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 2, Cols: []rows.Column{{Name: "a", Kind: rows.Text}}, Fields: []int{0},
	}
	t.Cleanup(func() {
		src.Close()
		// What was left behind ends now.
		if f, err := os.OpenFile(hung, os.O_RDWR, 0); err == nil {
			f.Close()
		}
	})
	ended := make(chan error, 2)
	go func() {
		_, err := src.Cut(chunker.Range{End: n}).Next(10)
		ended <- err
	}()
	go func() {
		ended <- src.Fill(rows.NewChunk(src.Cols), chunker.Span{Count: n, Rows: 2})
	}()
	// The opening of the other has begun, or will: neither way it waits.
	for range 3 {
		span, err := src.Cut(chunker.Range{First: n, End: 2 * n}).Next(10)
		if err != nil || span.Rows != 2 {
			t.Fatalf("the other file is cut into %v, %v", span, err)
		}
		if err := src.Fill(rows.NewChunk(src.Cols), span); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	cause := errors.New("the user wants no more")
	src.Interrupt(cause)
	for range 2 {
		if err := <-ended; !errors.Is(err, cause) {
			t.Errorf("got %v, want the cause", err)
		}
	}
	// What does not hang is still filled: running chunks finish.
	if err := src.Fill(rows.NewChunk(src.Cols), chunker.Span{First: n, Count: n, Rows: 2}); err != nil {
		t.Error(err)
	}
}
