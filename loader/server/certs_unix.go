//go:build unix

package server

import (
	"io/fs"
	"syscall"
)

// mayNotHave returns the permission bits that a key file must not have: all bits for group and
// others. A file owned by root may be readable by its group, as in libpq, so that a group of
// servers can share it.
func mayNotHave(info fs.FileInfo) fs.FileMode {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
		return 0o037
	}
	return 0o077
}
