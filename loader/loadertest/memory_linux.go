package loadertest

import "syscall"

// freeBytes returns the free space of the file system of a directory, zero if there is none.
func freeBytes(dir string) int64 {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * s.Bsize
}
