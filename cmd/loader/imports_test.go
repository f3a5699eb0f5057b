package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the layout: the compiler keeps the graph acyclic; chunker and
// what is below it import only the standard library, the command line's libraries stay in cmd, the test kit in
// tests.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "bulkload/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		seen++
		for _, imported := range p.Imports {
			switch {
			case strings.HasPrefix(p.ImportPath, "bulkload/chunker") && strings.Contains(imported, "."):
				t.Errorf("%s imports %s, which is not of the standard library", p.ImportPath, imported)
			case strings.HasPrefix(p.ImportPath, "bulkload/chunker") && strings.HasPrefix(imported, "bulkload/") && imported != "bulkload/chunker":
				t.Errorf("%s imports %s", p.ImportPath, imported)
			case p.ImportPath == "bulkload/loader/rows" && strings.HasPrefix(imported, "bulkload/") && imported != "bulkload/chunker":
				t.Errorf("rows imports %s", imported)
			case p.ImportPath == "bulkload/loader" && strings.HasPrefix(imported, "bulkload/") && !slices.Contains([]string{"bulkload/chunker", "bulkload/loader/failure", "bulkload/loader/latency", "bulkload/loader/rows"}, imported):
				t.Errorf("loader imports %s", imported)
			case p.ImportPath != "bulkload/cmd/loader" && (strings.HasPrefix(imported, "github.com/urfave/cli") || strings.HasPrefix(imported, "github.com/schollz/progressbar")):
				t.Errorf("%s imports %s, which is for cmd/loader", p.ImportPath, imported)
			case imported == "bulkload/loader/loadertest":
				t.Errorf("%s imports the test kit outside a test", p.ImportPath)
			}
		}
	}
	if seen < 8 {
		t.Errorf("go list shows %d packages of the module", seen)
	}
}
