//go:build unix

package localdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// asUser is the user that runs a server program. The zero value is the current user.
type asUser struct {
	uid, gid  uint32
	switching bool // switch to uid and gid
	mapped    bool // run in a user namespace that maps root to nobody
}

// nobody is the user id inside the namespace: the number that most systems use for it.
const nobody = 65534

// runner returns the user for a program in bin that refuses to run as root and has its files
// in dir: the owner of existing data, or else postgres or nobody.
func runner(dir, bin string) (asUser, error) {
	if os.Geteuid() != 0 {
		return asUser{}, nil
	}
	if info, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			return asUser{uid: owner.Uid, gid: owner.Gid, switching: true}, nil
		} else if canMap {
			return asUser{mapped: true}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		if uid != 0 && othersEnter(filepath.Dir(dir)) && othersEnter(bin) {
			return asUser{uid: uint32(uid), gid: uint32(gid), switching: true}, nil
		}
	}
	if canMap {
		return asUser{mapped: true}, nil
	}
	return asUser{}, fmt.Errorf("PostgreSQL does not run as root, and other users cannot enter %s and %s; set LOADER_DB_DIR and LOADER_CACHE_DIR to directories that all users can enter", dir, bin)
}

// othersEnter reports whether all users can enter dir and its parents.
func othersEnter(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// own changes the owner of a file to the user that runs the server.
func (u asUser) own(path string) error {
	if !u.switching {
		return nil
	}
	return os.Chown(path, int(u.uid), int(u.gid))
}

func (u asUser) apply(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if u.switching {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: []uint32{}}
	}
	if u.mapped {
		mapToNobody(cmd.SysProcAttr)
	}
}

// detach puts the server in its own session, so that Ctrl-C in the terminal does not reach it.
func detach(cmd *exec.Cmd, tied bool) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if tied {
		tie(cmd.SysProcAttr)
	}
}

func interrupt(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func alive(p *os.Process) bool {
	err := p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, syscall.EPERM)
}
