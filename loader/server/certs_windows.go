package server

import "io/fs"

// mayNotHave returns 0: Windows has no such permission bits.
func mayNotHave(fs.FileInfo) fs.FileMode { return 0 }
