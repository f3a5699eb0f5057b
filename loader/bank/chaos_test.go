//go:build chaos

package bank_test

// chaos is whether the long runs were asked for, by -tags chaos.
const chaos = true
