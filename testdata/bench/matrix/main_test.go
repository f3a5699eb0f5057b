package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPageOfOutcomes makes the page from outcomes: the last one of a test counts, and versions
// that were not run are named.
func TestPageOfOutcomes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ran")
	lines := "CockroachDB\t26.1.0\tbulkload/loader/load\tTestCuts/CockroachDB\tfailed\n" +
		"CockroachDB\t26.1.0\tbulkload/loader/load\tTestCuts/CockroachDB\tok\n" +
		"CockroachDB\t26.1.0\tbulkload/loader/importer\tTestProbe\tok\n" +
		"CockroachDB\t21.1.5\tbulkload/loader/server\tTestProof\tskipped\n" +
		"PostgreSQL\t18.4\tbulkload/loader/load\tTestPoints/PostgreSQL\tfailed\n"
	if err := os.WriteFile(name, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	m := matrix{}
	if err := m.read(name); err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	m.write(&page)
	for _, want := range []string{
		"| CockroachDB 21.1.5 | not run | not run | not run | not run |\n| CockroachDB 26.1.0 | not run | 1 passed | 1 passed | not run |\n",
		"| PostgreSQL 18.4 | 0 passed, 1 failed | not run | has none | not run |",
		"Not run: PostgreSQL 14, 15, 16, 17.", "* PostgreSQL 18.4: loader/load TestPoints/PostgreSQL",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", &page, want)
		}
	}
}
