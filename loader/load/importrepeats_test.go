package load_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestImportOfRepeatedRecords has records twice in a file, which IMPORT takes for one: the
// load is not confirmed, whoever asks, with the server's reply and without it, for a table
// that was empty and one that was not.
func TestImportOfRepeatedRecords(t *testing.T) {
	loadertest.Slow(t)
	srv := loadertest.CockroachServer(t)
	for _, x := range []struct {
		what   string
		before string
		lost   bool
	}{
		{"empty", "", false},
		{"reply lost", "", true},
		{"rows before", "INSERT INTO kv VALUES (-1, 0)", false},
		{"rows before, reply lost", "INSERT INTO kv VALUES (-1, 0)", true},
	} {
		t.Run(x.what, func(t *testing.T) {
			for _, again := range []int{0, 200} {
				url := srv.NewDatabase(t)
				loadertest.Exec(t, url, kvDDL)
				if x.before != "" {
					loadertest.Exec(t, url, x.before)
				}
				proxy := loadertest.NewProxy(t, url)
				req := fileRequest("kv", write(t, "x.csv", repeats(1200, again)))
				req.Method, req.ImportOptions, filesOf(req).Columns = load.Import, importer.Options{Mode: importer.Upload}, []string{"k", "v"}
				l := newLoad(t, proxy.URL(), req)
				fault := &loadertest.Fault{When: importInto, Do: loadertest.SwallowReply, Times: 1}
				if x.lost {
					proxy.Add(fault)
				}
				_, err := l.Run(context.Background())
				if x.lost && !fault.Fired() {
					t.Error("no reply was lost")
				}
				if again == 0 {
					if err != nil {
						t.Errorf("without a repetition: %v", err)
					}
					continue
				}
				checkDiffers(t, "the load", err)
				for range 2 {
					next, e := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
					if e != nil {
						t.Fatal(e)
					}
					_, err = next.Run(context.Background())
					checkDiffers(t, "a resume", err)
					_, err = next.Verify(context.Background(), nil)
					checkDiffers(t, "verify", err)
					next.Close()
				}
				if state := loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", l.ID); state != "loading" {
					t.Errorf("the load is %s", state)
				}
			}
		})
	}
}

// checkDiffers fails the test unless err names the record that is repeated, and what can be
// done.
func checkDiffers(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), "x.csv:1201: duplicate key k=0: the record at x.csv:1 has the same key") || !strings.Contains(err.Error(), "--via insert") {
		t.Errorf("%s: got %v, want ErrUnconfirmed and the record", what, err)
	}
}

// TestFirstRepeat finds it among many, on disk.
func TestFirstRepeat(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, kvDDL)
		for text, want := range map[string]string{
			repeats(9000, 0): "",
			repeats(9000, 0) + "8000,1\n0070,1\n8000,1\n70,2\n": "x.csv:9001: duplicate key k=8000: the record at x.csv:8001 has the same key",
			repeats(9000, 0) + "9001,1\n9001,1\n70,1\n":         "x.csv:9002: duplicate key k=9001: the record at x.csv:9001 has the same key",
		} {
			l := newLoad(t, url, conflicts(t, commit.SkipRow, text, load.Settings{}))
			if got, err := l.FirstRepeat(context.Background()); err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
	})
}
