//go:build unix

package server

import (
	"io/fs"
	"syscall"
)

// mayNotHave returns the permissions that a key file may not have: none for others; for
// the group reading only, where the file is root's (as libpq: a key that a group of
// servers shares).
func mayNotHave(info fs.FileInfo) fs.FileMode {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
		return 0o037
	}
	return 0o077
}
