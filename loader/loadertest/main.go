package loadertest

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// running says that Main runs the tests, so that servers are stopped.
var running atomic.Bool

var skips struct {
	sync.Mutex
	reasons map[string]int
}

// Skip skips the test for the reason, which Main reports with its count.
func Skip(t testing.TB, reason string) {
	t.Helper()
	skips.Lock()
	if skips.reasons == nil {
		skips.reasons = map[string]int{}
	}
	skips.reasons[reason]++
	skips.Unlock()
	t.Skip(reason)
}

// Main is the TestMain of a package that uses servers:
//
//	func TestMain(m *testing.M) { loadertest.Main(m) }
//
// It runs the tests, stops the servers, fails where goroutines or open files are then
// left, says how many tests [Skip] skipped and why, and exits. go test shows the line
// with -v or after a failure; when the environment variable LOADER_TEST_SKIPS names a
// file, Main appends it there too.
func Main(m *testing.M) {
	os.Exit(Run(m))
}

// Run is Main without the exit: it returns the exit code.
func Run(m *testing.M) (code int) {
	if _, err := chosen(); err != nil {
		fmt.Fprintln(os.Stderr, "loadertest:", err)
		return 1
	}
	running.Store(true)
	before := takeBaseline()
	defer func() { // also when a test panics
		if err := stopServers(); err != nil {
			fmt.Fprintln(os.Stderr, "loadertest:", err)
			code = max(code, 1)
		}
		if code == 0 {
			if left := before.left(); left != "" {
				fmt.Fprintln(os.Stderr, "loadertest: after all tests:", left)
				code = 1
			}
		}
		reportSkips(os.Stdout)
		if name := os.Getenv("LOADER_TEST_SKIPS"); name != "" {
			f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				fmt.Fprintln(os.Stderr, "loadertest:", err)
				return
			}
			defer f.Close()
			reportSkips(f)
		}
	}()
	return m.Run()
}

// reportSkips writes one line that says how many tests were skipped and why.
func reportSkips(w io.Writer) {
	skips.Lock()
	defer skips.Unlock()
	total, why := 0, ""
	for _, reason := range slices.Sorted(maps.Keys(skips.reasons)) {
		total += skips.reasons[reason]
		why += fmt.Sprintf("; %d × %s", skips.reasons[reason], reason)
	}
	fmt.Fprintf(w, "loadertest: %d tests skipped%s\n", total, why)
}
