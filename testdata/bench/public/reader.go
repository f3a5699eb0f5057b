package main

import (
	"bytes"
	"errors"
	"fmt"
)

// A cell is one field: a text, or NULL for nothing between two delimiters.
type cell struct {
	text string
	null bool
}

// read parses a file by RFC 4180 alone: a quote opens a field only at its beginning, and two
// quotes within such a field are one. It shares no code with the loader.
func read(text []byte, delimiter byte) (records [][]cell, err error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	end := byte('\n')
	if !bytes.Contains(text, []byte("\n")) {
		end = '\r'
	}
	var record []cell
	for len(text) > 0 {
		var c cell
		if text[0] == '"' {
			var b []byte
			text = text[1:]
			for {
				i := bytes.IndexByte(text, '"')
				if i < 0 {
					return nil, errors.New("a quote is not closed")
				}
				b = append(b, text[:i]...)
				text = text[i+1:]
				if len(text) == 0 || text[0] != '"' {
					break
				}
				b = append(b, '"')
				text = text[1:]
			}
			c.text = string(b)
		} else {
			i := bytes.IndexAny(text, string([]byte{delimiter, end}))
			if i < 0 {
				i = len(text)
			}
			b := text[:i]
			if end == '\n' && (i == len(text) || text[i] == end) {
				b = bytes.TrimSuffix(b, []byte("\r"))
			}
			c.text, c.null = string(b), len(b) == 0
			text = text[i:]
		}
		record = append(record, c)
		switch {
		case len(text) == 0:
		case text[0] == delimiter:
			text = text[1:]
			if len(text) == 0 {
				record = append(record, cell{null: true})
			}
			continue
		case text[0] == end:
			text = text[1:]
		case bytes.HasPrefix(text, []byte("\r\n")):
			text = text[2:]
		default:
			return nil, fmt.Errorf("text behind a quote in record %d", len(records)+1)
		}
		records = append(records, record)
		record = nil
	}
	if record != nil {
		records = append(records, record)
	}
	for len(records) > 0 && len(records[0]) > 1 && len(records[len(records)-1]) == 1 && records[len(records)-1][0].null {
		records = records[:len(records)-1]
	}
	return records, nil
}
