//go:build unix

package localdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// stateDir returns the directory for the user's private databases.
func stateDir() (string, error) {
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		// PostgreSQL does not run as root, and no other user can enter root's home.
		return "/var/lib/loader", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "loader"), nil
	}
	home, err := os.UserHomeDir()
	if runtime.GOOS == "darwin" {
		home = filepath.Join(home, "Library", "Application Support", "loader")
	} else {
		home = filepath.Join(home, ".local", "state", "loader")
	}
	if err != nil || !canMake(home) {
		return homeless("state")
	}
	return home, nil
}

// cacheDir returns the directory for the user's fetched binaries.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		if runtime.GOOS == "darwin" {
			return "/Library/Caches/loader", nil
		}
		return "/var/cache/loader", nil
	}
	dir, err := os.UserCacheDir()
	if dir = filepath.Join(dir, "loader"); err != nil || !canMake(dir) {
		return homeless("cache")
	}
	return dir, nil
}

// canMake reports whether a directory exists or can be made, and is writable.
func canMake(dir string) bool {
	for {
		info, err := os.Stat(dir)
		switch parent := filepath.Dir(dir); {
		case err == nil:
			return info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
		case !errors.Is(err, fs.ErrNotExist) || parent == dir:
			return false
		default:
			dir = parent
		}
	}
}

// homeless returns the directory of a user without a home. It survives a reboot. It is an
// error if another user owns the directory or can write to it.
func homeless(name string) (string, error) {
	base := filepath.Join("/var/tmp", fmt.Sprintf("loader-%d", os.Geteuid()))
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("there is no home directory: %w; set LOADER_DB_DIR and LOADER_CACHE_DIR", err)
	}
	info, err := os.Lstat(base)
	if err != nil {
		return "", err
	}
	if owner := info.Sys().(*syscall.Stat_t); !info.IsDir() || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("there is no home directory, and others can write to %s; set LOADER_DB_DIR and LOADER_CACHE_DIR", base)
	}
	return filepath.Join(base, name), nil
}
