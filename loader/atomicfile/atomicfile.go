// Package atomicfile writes files that have their name only when they are complete.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
)

// A File is a file that is being written. It has a hidden name until it is complete, and only
// its owner can read it. Create removes what a killed process has left of a file of the same
// name. A File is used by one goroutine at a time.
type File struct {
	*os.File
	name string
	// lock is held while the file is written, so that no other process removes it. Windows
	// needs no lock: it does not remove open files.
	lock *flock.Flock
}

// Create makes a file in the directory of name. Finish gives it that name.
func Create(name string) (*File, error) {
	dir, hidden := filepath.Dir(name), "."+filepath.Base(name)+".part-"
	removeLeft(dir, hidden)
	for {
		f, err := os.CreateTemp(dir, hidden+"*") // 0600
		if err != nil {
			return nil, err
		}
		p := &File{File: f, name: name, lock: flock.New(f.Name())}
		if runtime.GOOS == "windows" {
			return p, nil
		}
		locked, err := p.lock.TryLock()
		if err != nil {
			p.Discard()
			return nil, err
		}
		// Another process may have removed it before it was locked.
		if here, err := os.Lstat(f.Name()); locked && err == nil {
			if mine, err := f.Stat(); err == nil && os.SameFile(here, mine) {
				return p, nil
			}
		}
		p.Discard()
	}
}

// removeLeft removes files with that prefix that no process writes any more, as far as it may.
func removeLeft(dir, hidden string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if !strings.HasPrefix(e.Name(), hidden) || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
		if runtime.GOOS == "windows" {
			os.Remove(path)
		} else if locked, err := lock.TryLock(); err == nil && locked {
			os.Remove(path)
		}
		lock.Unlock()
	}
}

// Finish syncs the file and gives it its name.
func (p *File) Finish() error {
	err := p.Sync()
	if err == nil {
		err = p.File.Close()
	}
	if err == nil {
		err = os.Rename(p.File.Name(), p.name)
	}
	if err != nil {
		p.Discard()
		return err
	}
	return p.lock.Unlock()
}

// FinishNew is Finish, but fails with fs.ErrExist where there is a file of that name.
func (p *File) FinishNew() error {
	err := p.Sync()
	if err == nil {
		// A rename would replace a file that was created meanwhile.
		if err = os.Link(p.File.Name(), p.name); err == nil {
			p.Discard()
			return nil
		}
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, there := os.Lstat(p.name); there == nil {
			return &fs.PathError{Op: "link", Path: p.name, Err: fs.ErrExist}
		}
	}
	return p.Finish() // a file system without links
}

// Discard removes the file, unless it is finished.
func (p *File) Discard() {
	p.File.Close()
	if err := os.Remove(p.File.Name()); err == nil || errors.Is(err, fs.ErrNotExist) {
		p.lock.Unlock()
	}
}
