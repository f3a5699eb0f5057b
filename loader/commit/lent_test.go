package commit_test

import (
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"bulkload/loader/commit"
)

// TestRowsAreTakenBack uses a buffer again while a goroutine that was left behind still reads
// from it. With -race the test also finds a read that overlaps.
func TestRowsAreTakenBack(t *testing.T) {
	text := []byte("1\t2\n3\t4\n")
	whole, _ := commit.Lend(text)
	if err := iotest.TestReader(whole, text); err != nil {
		t.Error(err)
	}
	for range 100 {
		data := make([]byte, 1<<10)
		r, takeBack := commit.Lend(data)
		var left sync.WaitGroup
		left.Go(func() {
			p := make([]byte, 1)
			for {
				n, err := r.Read(p)
				if n == 1 && p[0] != 0 {
					t.Error("what was written after the rows were taken back is read")
					return
				}
				if err != nil {
					return
				}
			}
		})
		takeBack()
		for i := range data {
			data[i] = 1
		}
		left.Wait()
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Fatalf("rows that were taken back: %d bytes, %v", n, err)
		}
	}
}
