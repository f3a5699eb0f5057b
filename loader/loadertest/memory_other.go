//go:build !linux

package loadertest

func freeBytes(string) int64 { return 0 }
