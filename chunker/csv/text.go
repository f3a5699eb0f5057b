package csv

import (
	"bytes"
	"errors"
)

// Errors of Fields for the text format.
var (
	ErrEscape = errors.New(`a backslash ends the record`)
	ErrMark   = errors.New(`the end-of-data mark \. comes before the end of the file`)
)

// mark ends the data of a file in the text format.
const mark = `\.`

// escapedAt reports whether the line end whose last byte is text[i] is data, because a backslash
// precedes it. text begins with a record.
func escapedAt(text []byte, i int) bool {
	if text[i] == '\n' && i > 0 && text[i-1] == '\r' && odds(text[:i-1]) {
		return true
	}
	return odds(text[:i])
}

// odds reports whether text ends with an odd number of backslashes: the last one escapes what
// follows.
func odds(text []byte) bool {
	n := len(text)
	for n > 0 && text[n-1] == '\\' {
		n--
	}
	return (len(text)-n)%2 == 1
}

// skipText is Skip for the text format.
func (s *Scanner) skipText(rows int64, size int) bool {
	from := s.Rows
	for s.Rows < rows && s.At < len(s.Buf) && (s.At < size || s.Rows == from) {
		if quiet := s.At + quietBytes; !s.CR && quiet <= min(len(s.Buf), size) {
			// Without escaped line ends, counting line ends is enough.
			text := s.Buf[s.At:quiet]
			if n := int64(bytes.Count(text, newline)); n > 0 && s.Rows+n <= rows && !bytes.Contains(text, []byte("\\\n")) && !bytes.Contains(text, []byte("\\\r")) {
				s.At += bytes.LastIndexByte(text, '\n') + 1
				s.Rows += n
				s.Lines += n
				continue
			}
		}
		end, lines := s.textRecord(s.At)
		if end < 0 {
			break
		}
		s.found(end, lines)
	}
	return s.Rows > from
}

// textRecord is record for the text format.
func (s *Scanner) textRecord(at int) (end int, lines int64) {
	for i := at; ; i = end {
		line := index(s.Buf, i, '\n')
		if s.CR {
			line = min(line, index(s.Buf, i, '\r'))
		}
		var ok bool
		if end, ok = s.lineEnd(line); !ok {
			return -1, 0
		}
		if line < len(s.Buf) {
			lines++
			if escapedAt(s.Buf[at:], line-at) {
				continue
			}
			return end, lines
		}
		return end, lines + 1
	}
}

// Unmarked returns the end of a file in the text format without the end-of-data mark and what
// line ends follow it. text begins with a record; without a mark all of it is returned.
func (d Dialect) Unmarked(text []byte) []byte {
	kept := bytes.TrimRight(text, "\r\n")
	if !d.Text || !bytes.HasSuffix(kept, []byte(mark)) {
		return text
	}
	switch at := len(kept) - len(mark); {
	case at == 0,
		(text[at-1] == '\n' || d.CR && text[at-1] == '\r') && !escapedAt(text, at-1):
		return text[:at]
	}
	return text
}

// textFields is Fields for the text format.
func (d Dialect) textFields(record []byte, list []Field, text []byte) ([]Field, []byte, error) {
	if n := len(record); n > 0 && (record[n-1] == '\n' || record[n-1] == '\r') && !escapedAt(record, n-1) {
		record = trimEnd(record)
	}
	if string(record) == mark {
		return list, text, ErrMark
	}
	escapes := bytes.IndexByte(record, '\\') >= 0
	for {
		end := indexShort(record, d.Delimiter)
		if escapes {
			for end > 0 && odds(record[:end]) {
				next := indexShort(record[end+1:], d.Delimiter)
				if next < 0 {
					end = -1
				} else {
					end += 1 + next
				}
			}
		}
		raw := record
		if end >= 0 {
			raw = record[:end]
		}
		f := d.plain(raw)
		if !f.Null && escapes && bytes.IndexByte(raw, '\\') >= 0 {
			at := len(text)
			var ok bool
			if text, ok = unescape(text, raw); !ok {
				return list, text, ErrEscape
			}
			f.Text = text[at:len(text):len(text)]
		}
		list = append(list, f)
		if end < 0 {
			return list, text, nil
		}
		record = record[end+1:]
	}
}

// unescape appends a field without its escapes, as PostgreSQL's COPY reads them (its manual, COPY,
// "Text Format"). It reports false if a backslash is the last byte.
func unescape(text, raw []byte) ([]byte, bool) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			text = append(text, raw[i])
			continue
		}
		if i++; i == len(raw) {
			return text, false
		}
		switch c := raw[i]; c {
		case 'b':
			text = append(text, '\b')
		case 'f':
			text = append(text, '\f')
		case 'n':
			text = append(text, '\n')
		case 'r':
			text = append(text, '\r')
		case 't':
			text = append(text, '\t')
		case 'v':
			text = append(text, '\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			v := c - '0'
			for n := 1; n < 3 && i+1 < len(raw) && raw[i+1]-'0' < 8; n++ {
				i++
				v = v<<3 + raw[i] - '0'
			}
			text = append(text, v)
		case 'x':
			v, n := byte(0), 0
			for ; n < 2 && i+1 < len(raw) && hex(raw[i+1]) < 16; n++ {
				i++
				v = v<<4 + hex(raw[i])
			}
			if n == 0 {
				v = 'x'
			}
			text = append(text, v)
		case '\r':
			if text = append(text, c); i+1 < len(raw) && raw[i+1] == '\n' {
				i++
				text = append(text, '\n')
			}
		default:
			text = append(text, c)
		}
	}
	return text, true
}

// hex returns the value of a hexadecimal digit, or 16.
func hex(c byte) byte {
	switch {
	case c-'0' < 10:
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}
