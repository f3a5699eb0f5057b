package files

import (
	"os"
	"time"

	"bulkload/loader/failure"
)

// maxOpenFiles is the number of unused plain files that stay open. A load uses few of them at a
// time.
const maxOpenFiles = 128

// openFile is a plain file that is open, or is being opened.
type openFile struct {
	*os.File
	opened chan struct{} // closed when File or err is set
	err    error
	users  int   // readers at present
	last   int64 // CSV.uses when the last reader came
}

// diskGrace bounds a read of a plain file after Interrupt. A read of a hanging disk has no
// deadline: it is abandoned, and ends with the process.
const diskGrace = 2 * time.Second

// use calls f with file i, open, and usually leaves it open. Its error is a *FileError, the
// error of f, or the cause that Interrupt got. If left is true, f is still running: Interrupt
// was called, or the disk does not answer. Until the abandoned calls of f return, all others for
// this file fail at once.
func (s *CSV) use(i int, f func(*os.File) error) (left bool, err error) {
	limit := s.Input.idleTimeout()
	s.mu.Lock()
	if s.hung[i] > 0 {
		s.mu.Unlock()
		return false, failure.Reading(s.Files[i].Name, hungFor(limit))
	}
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		file, err := s.acquire(i)
		if err == nil {
			err = f(file.File)
			s.release(file)
		}
		ended <- err
	}()
	waited := time.NewTimer(limit)
	defer waited.Stop()
	select {
	case err := <-ended:
		return false, err
	case <-waited.C:
		s.abandon(i, ended)
		return true, failure.Reading(s.Files[i].Name, hungFor(limit))
	case <-s.over():
	}
	grace := time.NewTimer(diskGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return false, err
	case <-grace.C:
		return true, s.interrupted()
	}
}

// abandon counts a use of file i among those that hang, until it ends.
func (s *CSV) abandon(i int, ended <-chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hung == nil {
		s.hung = map[int]int{}
	}
	s.hung[i]++
	go func() {
		<-ended
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hung[i]--
	}()
}

// over returns a channel that is closed by Interrupt.
func (s *CSV) over() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		s.stopped = make(chan struct{})
		if s.ended != nil {
			close(s.stopped)
		}
	}
	return s.stopped
}

// acquire returns file i, and opens it if necessary. It opens without the lock: a hanging file
// must not stop the others.
func (s *CSV) acquire(i int) (*openFile, error) {
	s.mu.Lock()
	file := s.open[i]
	first := file == nil
	if first {
		if len(s.open) >= maxOpenFiles {
			s.closeOldest()
		}
		file = &openFile{opened: make(chan struct{})}
		if s.open == nil {
			s.open = map[int]*openFile{}
		}
		s.open[i] = file
	}
	s.uses++
	file.users, file.last = file.users+1, s.uses
	s.mu.Unlock()
	if !first {
		<-file.opened
		return file, file.err
	}
	f, err := os.Open(s.Files[i].Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(file.opened)
	switch {
	case err != nil:
		delete(s.open, i)
		file.err = failure.Reading(s.Files[i].Name, err)
	case s.open[i] != file: // closed in the meantime
		f.Close()
		file.err = failure.Reading(s.Files[i].Name, os.ErrClosed)
	default:
		file.File = f
	}
	return file, file.err
}

func (s *CSV) release(f *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users--
}

// closeOldest closes the unused file that was read least recently, if there is one. s is
// locked.
func (s *CSV) closeOldest() {
	oldest := -1
	for i, f := range s.open {
		if f.users == 0 && (oldest < 0 || f.last < s.open[oldest].last) {
			oldest = i
		}
	}
	if oldest >= 0 {
		s.open[oldest].Close()
		delete(s.open, oldest)
	}
}

// plainFile reads file index of src, which may be closed and reopened between reads.
type plainFile struct {
	src   *CSV
	index int
}

func (p plainFile) ReadAt(b []byte, at int64) (int, error) {
	var n int
	left, err := p.src.use(p.index, func(f *os.File) (err error) {
		n, err = f.ReadAt(b, at)
		return err
	})
	if left {
		return 0, err // an abandoned read still sets n
	}
	return n, err
}
