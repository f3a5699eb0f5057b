package atomicfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"bulkload/loader/atomicfile"
)

// TestPart: a file that another command is writing stays, one that a killed command has
// left goes, and so does nothing of another name.
func TestPart(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "rows.csv")
	live, err := atomicfile.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Discard()
	left := filepath.Join(dir, ".rows.csv.part-123")
	other := filepath.Join(dir, ".rows.csv.gz.part-123")
	for _, path := range []string{left, other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second, err := atomicfile.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Discard()
	for path, want := range map[string]bool{live.Name(): true, second.Name(): true, other: true, left: false} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
	if err := second.Finish(); err != nil {
		t.Fatal(err)
	}
	live.Discard()
	list, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(list) != 1 || list[0] != other {
		t.Errorf("left beside the file: %q, %v", list, err)
	}
	if info, err := os.Lstat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}
