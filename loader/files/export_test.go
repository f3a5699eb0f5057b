package files

// Held returns how many spans of streams s holds.
func (s *CSV) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// MaxOpenFiles is the number of plain files that are kept open.
const MaxOpenFiles = maxOpenFiles
