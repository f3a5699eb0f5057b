package csv

import (
	"bytes"
	"errors"
)

// A Field is one value of a record. Its text belongs to the record or to the buffer
// that Fields was given.
type Field struct {
	Text []byte
	Null bool
}

// ErrUnclosed: a quote is not closed before the end of the record.
var ErrUnclosed = errors.New("a quote is not closed")

// Fields splits a record, its end of line included or not, and appends its values to
// list. Values that need unquoting are written to text, which is returned longer. The
// error is ErrUnclosed.
func (d Dialect) Fields(record []byte, list []Field, text []byte) ([]Field, []byte, error) {
	record = trimEnd(record)
	if d.Quote == 0 || bytes.IndexByte(record, d.Quote) < 0 {
		for {
			i := indexShort(record, d.Delimiter)
			if i < 0 {
				return append(list, d.plain(record)), text, nil
			}
			list = append(list, d.plain(record[:i]))
			record = record[i+1:]
		}
	}
	escape := d.Escape
	if escape == 0 {
		escape = d.Quote
	}
	for i := 0; ; {
		// 1. A field without quotes stays where it is.
		start := i
		for i < len(record) && record[i] != d.Delimiter && record[i] != d.Quote {
			i++
		}
		if i == len(record) {
			return append(list, d.plain(record[start:])), text, nil
		}
		if record[i] == d.Delimiter {
			list = append(list, d.plain(record[start:i]))
			i++
			continue
		}
		// 2. One that is quoted as a whole and holds no escape too.
		if i == start {
			if n := bytes.IndexByte(record[i+1:], d.Quote); n >= 0 {
				end := i + 1 + n
				whole := end+1 == len(record) || record[end+1] == d.Delimiter
				if whole && (escape == d.Quote || bytes.IndexByte(record[i+1:end], escape) < 0) {
					list = append(list, Field{Text: record[i+1 : end]})
					if end+1 == len(record) {
						return list, text, nil
					}
					i = end + 2
					continue
				}
			}
		}
		// 3. The rest is copied, character by character.
		at := len(text)
		text = append(text, record[start:i]...)
		open := false
		for ; i < len(record); i++ {
			b := record[i]
			switch {
			case !open && b == d.Quote:
				open = true
				continue
			case !open && b == d.Delimiter:
			case open && b == escape && i+1 < len(record) && (record[i+1] == escape || record[i+1] == d.Quote):
				i++
				text = append(text, record[i])
				continue
			case open && b == d.Quote:
				open = false
				continue
			default:
				text = append(text, b)
				continue
			}
			break
		}
		if open {
			return list, text, ErrUnclosed
		}
		list = append(list, Field{Text: text[at:len(text):len(text)]})
		if i == len(record) {
			return list, text, nil
		}
		i++
	}
}

// plain returns an unquoted value.
func (d Dialect) plain(b []byte) Field {
	if len(b) == len(d.Null) && string(b) == d.Null {
		return Field{Null: true}
	}
	return Field{Text: b}
}

// indexShort is bytes.IndexByte for fields, most of which are shorter than a call of it
// is worth.
func indexShort(b []byte, c byte) int {
	for i, x := range b {
		if x == c {
			return i
		}
		if i == 16 {
			if n := bytes.IndexByte(b[i:], c); n >= 0 {
				return i + n
			}
			return -1
		}
	}
	return -1
}

// trimEnd cuts the end of line off.
func trimEnd(record []byte) []byte {
	n := len(record)
	if n > 0 && record[n-1] == '\n' {
		n--
		if n > 0 && record[n-1] == '\r' {
			n--
		}
	} else if n > 0 && record[n-1] == '\r' {
		n--
	}
	return record[:n]
}
