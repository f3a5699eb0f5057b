package loadertest

import (
	"os"
	"testing"
)

// Long skips a test that waits, or that repeats what shorter ones show, unless the build
// tag chaos asks for it; see [Chaos].
func Long(t testing.TB) {
	t.Helper()
	if !Chaos {
		Skip(t, "long: -tags chaos runs it")
	}
}

// Slow skips a test that takes many seconds, so that go test ./... alone stays short. The
// gate, which sets LOADER_TEST_SLOW=1, and the build tag chaos run it.
func Slow(t testing.TB) {
	t.Helper()
	if !Chaos && os.Getenv("LOADER_TEST_SLOW") == "" {
		Skip(t, "slow: LOADER_TEST_SLOW=1 runs it")
	}
}
