//go:build !chaos

package main

const chaos = false
