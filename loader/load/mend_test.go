package load_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"bulkload/loader"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestRunOfTheFileAsItWas has a run of a load open the file, and another one go on with the file
// mended before the first begins: that one knows other positions, and loads nothing.
func TestRunOfTheFileAsItWas(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
		path := write(t, "x.csv", "1,a\n2,b\n3,c\nx,d\n5,e\n")
		req := fileRequest("t", path)
		req.Chunk, req.Workers, req.InOrder = 1, 1, true
		l := newLoad(t, url, req)
		if _, err := l.Run(context.Background()); err == nil {
			t.Fatal("a bad record is loaded")
		}
		in := loadertest.Value[int64](t, url, "SELECT count(*) FROM t")
		srv := loadertest.Open(t, url)
		resume := func() *load.Load {
			t.Helper()
			r, err := load.Resume(t.Context(), srv, l.ID, load.Settings{Chunk: 1, Workers: 1, Input: files.NewInput(strings.NewReader("")), Mend: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			return r
		}
		old := resume()
		// Of the same length: the positions alone do not tell.
		if err := os.WriteFile(path, []byte("1,a\n2,b\n3,c\n4,d\n6,f\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		mended := resume()
		if _, err := old.Run(context.Background()); !errors.Is(err, loader.ErrLost) || loadertest.Value[int64](t, url, "SELECT count(*) FROM t") != in {
			t.Errorf("the run with the old file ends with %v, want ErrLost", err)
		}
		if _, err := mended.Run(context.Background()); err != nil {
			t.Error(err)
		}
		if got := loadertest.Value[string](t, url, "SELECT string_agg(id::TEXT || v, ' ' ORDER BY id) FROM t"); got != "1a 2b 3c 4d 6f" {
			t.Errorf("the table has %s", got)
		}
	})
}
