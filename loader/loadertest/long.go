package loadertest

import "testing"

// Long skips a test that waits, or that repeats what shorter ones show, unless the build
// tag chaos asks for it; see [Chaos].
func Long(t testing.TB) {
	t.Helper()
	if !Chaos {
		Skip(t, "long: -tags chaos runs it")
	}
}
