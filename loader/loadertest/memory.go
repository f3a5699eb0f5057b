package loadertest

import (
	"os"
	"path/filepath"
	"time"
)

// memoryDir is Linux's file system in memory.
const memoryDir = "/dev/shm"

// memoryFree is the free space that a server in memory needs, in bytes: what the tests of two
// packages at a time hold, several times over.
const memoryFree = 4 << 30

// inMemory returns the directory for the data of a temporary PostgreSQL: in memory where there is
// room, unless TMPDIR says otherwise. Each database of a test makes and removes some three hundred
// files. On ext4, that took a third of the time of such tests.
func inMemory() string {
	if os.Getenv("TMPDIR") != "" || freeBytes(memoryDir) < memoryFree {
		return ""
	}
	removeForgotten(memoryDir)
	return memoryDir
}

// forgotten is how old a server's directory is that no test still uses.
const forgotten = 12 * time.Hour

// removeForgotten removes the directories of servers whose tests were killed. Nothing else clears
// them from memory.
func removeForgotten(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, "ldb*"))
	if err != nil {
		return
	}
	for _, d := range left {
		if s, err := os.Stat(d); err == nil && time.Since(s.ModTime()) > forgotten {
			os.RemoveAll(d) // another test process may remove it, too
		}
	}
}
