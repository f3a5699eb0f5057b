package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// command returns the loader command with arguments, for a database.
func command(url string, args ...string) *exec.Cmd {
	cmd := exec.Command(mustLookPath("loader"), append(args, "--url", url, "--quiet")...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// loads returns the loads that the command lists.
func loads(t *testing.T, url string) []loadJSON {
	t.Helper()
	out, err := command(url, "loads", "list", "--format", "json").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitRefused {
		return nil // killed before there was a registry
	}
	if err != nil {
		t.Fatalf("loads list: %v", err)
	}
	var list []loadJSON
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// registered returns a new database that has a registry already, whose making takes its
// time.
func registered(t *testing.T, s loadertest.Server) string {
	t.Helper()
	url := s.NewDatabase(t)
	mustRun(t, url, "points", "--n", "1", "--table", "first")
	return url
}

// mustRun runs the command, which must end well, and returns what is on its stdout.
func mustRun(t *testing.T, url string, args ...string) string {
	t.Helper()
	cmd := command(url, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("loader %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// runTo runs the command, which must end with an exit code, and returns its output.
func runTo(t *testing.T, want int, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%q: exit code %d, want %d\n%s", cmd.Args, got, want, out)
	}
	return string(out)
}

// killed starts the command and kills it after a while. It reports whether that met a live
// process: one that has ended before, which must be with the exit code done, is not killed.
func killed(t *testing.T, cmd *exec.Cmd, after time.Duration, done int) bool {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	if wasKilled(cmd) {
		return true
	}
	if code := cmd.ProcessState.ExitCode(); code != done {
		t.Fatalf("%q, which was not killed: exit code %d, want %d\n%s", cmd.Args, code, done, out.String())
	}
	return false
}

// wasKilled reports whether a command that has ended died of kill -9.
func wasKilled(cmd *exec.Cmd) bool {
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.Signaled() && status.Signal() == syscall.SIGKILL
}

// waitFor polls a file until it matches.
func waitFor(t *testing.T, path, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	loadertest.Eventually(t, pattern, func() bool {
		b, _ := os.ReadFile(path)
		found = re.FindString(string(b))
		return found != ""
	})
	return found
}

// newRandom draws the seed of a test's moments, or takes that of LOADER_TEST_SEED, and
// prints it.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("LOADER_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOADER_TEST_SEED=%d draws the same moments", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
