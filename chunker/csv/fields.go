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

// Errors of Fields.
var (
	ErrUnclosed = errors.New("a quote is not closed")
	ErrBehind   = errors.New("text follows a closing quote")
)

// Fields splits a record, its end of line included or not, and appends its values to
// list. Values that need unquoting are written to text, which is returned longer. The
// error is ErrUnclosed or ErrBehind.
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
	for {
		// 1. A field that begins with no quote stays where it is.
		if len(record) == 0 || record[0] != d.Quote {
			i := indexShort(record, d.Delimiter)
			if i < 0 {
				return append(list, d.plain(record)), text, nil
			}
			list = append(list, d.plain(record[:i]))
			record = record[i+1:]
			continue
		}
		// 2. So does what is between quotes and holds no escape.
		end := 1 + bytes.IndexByte(record[1:], d.Quote)
		if end == 0 {
			return list, text, ErrUnclosed
		}
		whole := end+1 == len(record) || record[end+1] != d.Quote
		if escape != d.Quote {
			whole = bytes.IndexByte(record[1:end], escape) < 0
		}
		value := record[1:end]
		if !whole {
			// 3. The rest is copied, character by character.
			at := len(text)
			for end = 1; ; end++ {
				if end == len(record) {
					return list, text, ErrUnclosed
				}
				b := record[end]
				if b == escape && end+1 < len(record) && (record[end+1] == escape || record[end+1] == d.Quote) {
					end++
					b = record[end]
				} else if b == d.Quote {
					break
				}
				text = append(text, b)
			}
			value = text[at:len(text):len(text)]
		}
		list = append(list, Field{Text: value})
		switch end++; {
		case end == len(record):
			return list, text, nil
		case record[end] != d.Delimiter:
			return list, text, ErrBehind
		}
		record = record[end+1:]
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
