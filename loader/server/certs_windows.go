package server

import "io/fs"

// mayNotHave returns nothing: Windows has no such permissions.
func mayNotHave(fs.FileInfo) fs.FileMode { return 0 }
