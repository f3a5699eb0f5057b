package importer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/importer"
	"bulkload/loader/importer/virtual"
)

func TestOutWritesAllFilesOrNone(t *testing.T) {
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv.gz"), filepath.Join(dir, "c.csv.zst")}
	if err := importer.Out(context.Background(), names, parts(t, 3), 2); err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		info, err := os.Stat(n)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", n, info.Mode(), err)
		}
		if i == 0 {
			b, _ := os.ReadFile(n)
			if !bytes.Equal(b, whole(t, parts(t, 3)[0])) {
				t.Error("the file holds other bytes than the text")
			}
		}
	}
	var file *importer.FileError
	if err := importer.Out(context.Background(), names[:1], parts(t, 1), 1); !errors.As(err, &file) || !errors.Is(err, os.ErrExist) {
		t.Errorf("writing over a file: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stopped := filepath.Join(dir, "d.csv")
	if err := importer.Out(ctx, []string{stopped}, parts(t, 1), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("%d files are left, want 3: %v", len(left), left)
	}
}

func parts(t *testing.T, n int) []*virtual.File {
	t.Helper()
	const testRows = 50_000
	points := dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: dataset.MinKeyBase, Rows: testRows}}
	list, err := virtual.Parts(points, virtual.CSV, chunker.Range{End: testRows}, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// whole returns the bytes of a virtual file.
func whole(t *testing.T, x *virtual.File) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := x.Write(context.Background(), &b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
