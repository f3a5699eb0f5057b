package files_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/files"
)

// TestOneFileUnderTwoNames: the rows of a file are not loaded twice, whatever its names are.
func TestOneFileUnderTwoNames(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("a.csv"), []byte("1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("copy.csv"), []byte("1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path("a.csv"), path("hard.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.csv", path("soft.csv")); err != nil {
		t.Fatal(err)
	}
	inspect := func(args ...string) error {
		names, err := files.Expand(args)
		if err == nil {
			_, err = files.NewInput(strings.NewReader("")).Inspect(t.Context(), names, "")
		}
		return err
	}
	for _, other := range []string{"hard.csv", "soft.csv", "a.csv", "./a.csv"} {
		err := inspect(path("a.csv"), dir+"/"+other)
		if err == nil || !strings.Contains(err.Error(), "is the same file as "+path("a.csv")) && !strings.Contains(err.Error(), "is named twice") {
			t.Errorf("a.csv and %s: got %v", other, err)
		}
	}
	if err := inspect(path("*.csv")); err == nil {
		t.Error("a pattern takes the links too")
	}
	if err := inspect(path("a.csv"), path("copy.csv")); err != nil { // the control
		t.Error(err)
	}
}
