package csv

import (
	"bytes"
	"errors"
)

// A Field is one value of a record. Its text belongs to the record, or to the buffer passed to
// Fields.
type Field struct {
	Text []byte
	Null bool
}

// Errors of Fields.
var (
	ErrUnclosed = errors.New("a quote is not closed")
	ErrBehind   = errors.New("text follows a closing quote")
)

// Fields splits a record, with or without its line end, and appends its values to list. Values
// without escapes share the record's memory; the others are appended to text. Both slices are
// returned. The error is ErrUnclosed or ErrBehind; for the text format ErrEscape or ErrMark.
func (d Dialect) Fields(record []byte, list []Field, text []byte) ([]Field, []byte, error) {
	if d.Text {
		return d.textFields(record, list, text)
	}
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
		// 1. A field without an opening quote is not copied.
		if len(record) == 0 || record[0] != d.Quote {
			i := indexShort(record, d.Delimiter)
			if i < 0 {
				return append(list, d.plain(record)), text, nil
			}
			list = append(list, d.plain(record[:i]))
			record = record[i+1:]
			continue
		}
		// 2. Neither is a quoted field without an escape.
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
			// 3. A field with escapes is copied byte by byte.
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

// plain returns an unquoted field.
func (d Dialect) plain(b []byte) Field {
	if len(b) == len(d.Null) && string(b) == d.Null {
		return Field{Null: true}
	}
	return Field{Text: b}
}

// indexShort is bytes.IndexByte for fields. Most fields are too short to be worth that call.
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

// trimEnd removes the line end of a record.
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
