//go:build chaos

package main

// chaos is whether the long runs were asked for, by -tags chaos.
const chaos = true
