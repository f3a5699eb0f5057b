package files

import (
	"math"
	"strings"
	"unicode/utf8"

	"bulkload/chunker/csv"
)

// bom is the byte order mark of UTF-8.
const bom = "\xef\xbb\xbf"

// delimiters are those that Sniff tries, the likelier first.
var delimiters = []byte{',', '\t', ';', '|'}

// Sniff returns the delimiter of the file that begins with head: the one that cuts its
// records into equally many fields, and into the most. d has what is known, its
// Delimiter aside. Where no candidate cuts anything, it is a comma.
func Sniff(head []byte, whole bool, d csv.Dialect) byte {
	best, bestScore := delimiters[0], 0.0
	for _, c := range delimiters {
		if c == d.Quote || c == d.Escape || strings.IndexByte(d.Null, c) >= 0 {
			continue
		}
		d.Delimiter = c
		widths := map[int]int{}
		n, most := 0, 0
		for _, r := range Records(head, whole, d, sniffRecords) {
			widths[len(r)]++
			n++
		}
		for w, times := range widths {
			if w > 1 && (times > widths[most] || times == widths[most] && w > most) {
				most = w
			}
		}
		if most == 0 {
			continue
		}
		// Records of one width are worth more than many fields.
		if score := float64(widths[most])/float64(n) + float64(most)/1e6; score > bestScore {
			best, bestScore = c, score
		}
	}
	return best
}

// sniffRecords is the number of records that guesses are made from.
const sniffRecords = 1000

// Records parses the first records of a file, at most most of them. With whole, head is
// all of the file; else a record that head may have cut is left out.
func Records(head []byte, whole bool, d csv.Dialect, most int64) [][]csv.Field {
	s := csv.Scanner{Dialect: d, Buf: head, EOF: whole}
	var list [][]csv.Field
	for at := 0; int64(len(list)) < most && s.Skip(s.Rows+1, math.MaxInt); at = s.At {
		fields, _, err := d.Fields(head[at:s.At], nil, nil)
		if err != nil {
			break
		}
		list = append(list, fields)
	}
	return list
}

// Skipped returns the length of what stands in front of the header: a byte order mark,
// and lines lines.
func Skipped(head []byte, lines int) int64 {
	at := 0
	if strings.HasPrefix(string(head[:min(3, len(head))]), bom) {
		at = len(bom)
	}
	for range lines {
		at += csv.LineLen(head[at:])
	}
	return int64(at)
}

// Valid reports whether head is UTF-8, a character that is cut at its end aside where
// it is not whole.
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
