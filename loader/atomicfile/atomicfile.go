// Package atomicfile writes files that are complete when they have their name.
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

// A File is a file that is being written. It has a hidden name until it is complete, so
// that nobody takes a part for the whole, and only its owner can read it. What a kill -9
// leaves of one, Create of the same name removes.
type File struct {
	*os.File
	name string
	// lock is held while the file is written, so that no other command takes it for
	// left. Windows has no need of it: it does not remove what is open.
	lock *flock.Flock
}

// Create makes a file that is to have a name when it is complete, in the same directory.
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
		// Before it was locked another command may have removed it.
		if here, err := os.Lstat(f.Name()); locked && err == nil {
			if mine, err := f.Stat(); err == nil && os.SameFile(here, mine) {
				return p, nil
			}
		}
		p.Discard()
	}
}

// removeLeft removes the files of that beginning that nobody writes any more, where it may.
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

// Finish gives the file its name. Its content is on the disk then.
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
		// A rename would take the place of a file that came meanwhile.
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

// Discard removes the file, unless it is finished or gone.
func (p *File) Discard() {
	p.File.Close()
	if err := os.Remove(p.File.Name()); err == nil || errors.Is(err, fs.ErrNotExist) {
		p.lock.Unlock()
	}
}
