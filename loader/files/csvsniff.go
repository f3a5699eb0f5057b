package files

import (
	"math"
	"strings"
	"unicode/utf8"

	"bulkload/chunker/csv"
)

// bom is the byte order mark of UTF-8.
const bom = "\xef\xbb\xbf"

// Records parses the first records of a file, at most most of them. whole says that head is all
// of the file; otherwise the last record is left out, because head may cut it.
func Records(head []byte, whole bool, d csv.Dialect, maxRecords int64) [][]csv.Field {
	s := csv.Scanner{Dialect: d, Buf: head, EOF: whole}
	var list [][]csv.Field
	for at := 0; int64(len(list)) < maxRecords && s.Skip(s.Rows+1, math.MaxInt); at = s.At {
		fields, _, err := d.Fields(head[at:s.At], nil, nil)
		if err != nil {
			break
		}
		list = append(list, fields)
	}
	return list
}

// Skipped returns the length of the text in front of the header: a byte order mark, and lines
// lines.
func Skipped(head []byte, lines int, d csv.Dialect) int64 {
	at := 0
	if strings.HasPrefix(string(head[:min(3, len(head))]), bom) {
		at = len(bom)
	}
	for range lines {
		at += d.LineLen(head[at:])
	}
	return int64(at)
}

// Valid reports whether head is UTF-8. Unless head is the whole file, its last character may be
// cut.
func Valid(head []byte, whole bool) bool {
	if whole {
		return utf8.Valid(head)
	}
	for i := 0; i < utf8.UTFMax && len(head) > 0; i++ {
		if utf8.Valid(head) {
			return true
		}
		head = head[:len(head)-1]
	}
	return len(head) == 0
}
