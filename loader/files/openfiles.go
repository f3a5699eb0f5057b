package files

import "os"

// maxOpenFiles is the number of plain files that are kept open while nobody reads from them.
// A load has few of them in work at a time.
const maxOpenFiles = 128

// openFile is a plain file that is open.
type openFile struct {
	*os.File
	users int   // that read from it
	last  int64 // CSV.uses when the last of them came
}

// use calls f with file i, which is open meanwhile, and mostly stays so. Its error is a
// *FileError, or f's.
func (s *CSV) use(i int, f func(*os.File) error) error {
	file, err := s.acquire(i)
	if err != nil {
		return err
	}
	defer s.release(file)
	return f(file.File)
}

func (s *CSV) acquire(i int) (*openFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file := s.open[i]
	if file == nil {
		if len(s.open) >= maxOpenFiles {
			s.closeOldest()
		}
		f, err := os.Open(s.Files[i].Name)
		if err != nil {
			return nil, &FileError{s.Files[i].Name, err}
		}
		file = &openFile{File: f}
		if s.open == nil {
			s.open = map[int]*openFile{}
		}
		s.open[i] = file
	}
	s.uses++
	file.users, file.last = file.users+1, s.uses
	return file, nil
}

func (s *CSV) release(f *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users--
}

// closeOldest closes the file that has not been read from for the longest time, if there
// is one that nobody reads from. s is locked.
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

// plainFile reads file index of src, which need not be open in between.
type plainFile struct {
	src   *CSV
	index int
}

func (p plainFile) ReadAt(b []byte, at int64) (n int, err error) {
	err = p.src.use(p.index, func(f *os.File) (err error) {
		n, err = f.ReadAt(b, at)
		return err
	})
	return n, err
}
