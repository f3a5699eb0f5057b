package localdb

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

func stateDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the local database: %w; set LOADER_DB_DIR", err)
	}
	return filepath.Join(dir, "loader"), nil
}

func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for PostgreSQL's binaries: %w; set LOADER_CACHE_DIR", err)
	}
	return filepath.Join(dir, "loader", "cache"), nil
}

type asUser struct{}

func runner(_, _ string) (asUser, error) { return asUser{}, nil }
func (asUser) own(string) error          { return nil }
func (asUser) apply(*exec.Cmd)           {}

func detach(cmd *exec.Cmd, _ bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func interrupt(p *os.Process) error { return p.Kill() }

func alive(p *os.Process) bool { return p.Signal(syscall.Signal(0)) == nil }
