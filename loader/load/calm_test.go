//go:build !chaos

package load_test

const chaos = false
