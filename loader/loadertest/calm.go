//go:build !chaos

package loadertest

// Chaos is whether the long runs were asked for, by the build tag chaos: every way to
// load under every fault, on every server.
const Chaos = false
