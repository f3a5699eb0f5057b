package csv

import "bytes"

// lineEnd returns the position after the line end at line. It reports false if that depends on
// more of the file.
func (s *Scanner) lineEnd(line int) (int, bool) {
	switch {
	case line == len(s.Buf):
		return line, s.EOF
	case s.Buf[line] == '\n':
		return line + 1, true
	case line+1 == len(s.Buf):
		return line + 1, s.EOF // whether an LF follows the CR
	case s.Buf[line+1] == '\n':
		return line + 2, true
	}
	return line + 1, true
}

// LineLen returns the length of the first line of buf with its line end, or len(buf) if it has
// no line end.
func (d Dialect) LineLen(buf []byte) int {
	line := index(buf, 0, '\n')
	if !d.CR {
		return min(line+1, len(buf))
	}
	s := Scanner{Buf: buf, EOF: true}
	end, _ := s.lineEnd(min(line, index(buf, 0, '\r')))
	return end
}

// CountLines returns the number of line ends in buf.
func (d Dialect) CountLines(buf []byte) int64 {
	n := int64(bytes.Count(buf, newline))
	for d.CR {
		i := bytes.IndexByte(buf, '\r')
		if i < 0 {
			break
		}
		if i+1 == len(buf) || buf[i+1] != '\n' {
			n++
		}
		buf = buf[i+1:]
	}
	return n
}

var newline = []byte{'\n'}

// index returns the position of c in buf, from at on, or len(buf).
func index(buf []byte, at int, c byte) int {
	if at < len(buf) {
		if i := bytes.IndexByte(buf[at:], c); i >= 0 {
			return at + i
		}
	}
	return len(buf)
}
