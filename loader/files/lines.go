package files

import (
	"errors"
	"io"
	"sort"
)

// A mark is the known line number of an offset.
type mark struct{ offset, line int64 }

// line returns the line of a plain file at an offset, counted from the nearest mark. Zero is
// unknown.
func (s *CSV) line(i int, offset int64) int64 {
	s.mu.Lock()
	from := mark{0, 1}
	if marks := s.lines[i]; len(marks) > 0 {
		if k := sort.Search(len(marks), func(k int) bool { return marks[k].offset > offset }); k > 0 {
			from = marks[k-1]
		}
	}
	s.mu.Unlock()
	if from.offset == offset {
		return from.line
	}
	r := io.NewSectionReader(plainFile{s, i}, from.offset, offset-from.offset)
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && buf[n-1] == '\r' && err == nil && n > 1 {
			// The next byte decides whether the CR ends a line of its own.
			n--
			r.Seek(-1, io.SeekCurrent)
		}
		from.line += s.Dialect.CountLines(buf[:n])
		if err != nil && !errors.Is(err, io.EOF) {
			return 0
		}
		if err != nil || n == 0 {
			break
		}
	}
	from.offset = offset
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[int][]mark{}
	}
	marks := append(s.lines[i], from)
	sort.Slice(marks, func(a, b int) bool { return marks[a].offset < marks[b].offset })
	s.lines[i] = marks
	return from.line
}
