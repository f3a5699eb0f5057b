//go:build !chaos

package bank_test

const chaos = false
