package loadertest

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"bulkload/loader/server"
)

// RanVar is the environment variable that names a file to which each test that was given a
// server adds a line when it ends: the product, its version and SettingsVar, the package, the test, and
// "ok", "failed" or "skipped", separated by tabs. testdata/bench/matrix makes a page of it.
const RanVar = "LOADER_TEST_RAN"

var ranMu sync.Mutex

// recordRun adds the test's line to the file of RanVar at its end.
func recordRun(t testing.TB, p server.Product, version string) {
	name := os.Getenv(RanVar)
	if name == "" {
		return
	}
	if s := os.Getenv(SettingsVar); s != "" && p == server.CockroachDB {
		version += ", " + s
	}
	t.Cleanup(func() {
		outcome := "ok"
		switch {
		case t.Failed():
			outcome = "failed"
		case t.Skipped():
			outcome = "skipped"
		}
		ranMu.Lock()
		defer ranMu.Unlock()
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = fmt.Fprintf(f, "%s\t%s\t%s\t%s\t%s\n", p, version, testedPackage(), t.Name(), outcome)
		if err2 := f.Close(); err == nil {
			err = err2
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// testedPackage is the import path of the package whose tests run.
func testedPackage() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	return strings.TrimSuffix(info.Path, ".test")
}
