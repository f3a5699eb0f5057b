package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The encodings that an error offers for text that is not UTF-8: those in which most such files
// are written. A file does not show which one it is.
var (
	narrow = []string{"latin1", "win1252", "mac", "cp850", "win1250", "win1251"}
	wide   = []string{"shift_jis", "gbk", "big5", "euc-kr", "euc-jp"} // two bytes are one character
)

// maxOffered bounds the encodings that an error offers.
const maxOffered = 4

// invalidAt returns the place of the first byte of text that is not UTF-8, or len(text).
func invalidAt(text []byte) int {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n < 2 {
			return at
		}
		at += n
	}
	return len(text)
}

// offered returns the encodings in which text is valid, as flags, with the first value that is
// not UTF-8 as each reads it. Encodings that read all of text alike are one offer.
func offered(text []byte) string {
	at := invalidAt(text)
	if end := bytes.LastIndexByte(text, '\n'); end >= at {
		text = text[:end+1] // the end of text may cut a character
	}
	value := valueAround(text, at)
	high, pairs := 0, 0 // bytes beyond ASCII, and those beside another one
	for i, b := range text {
		if b >= 0x80 {
			high++
			if i > 0 && text[i-1] >= 0x80 || i+1 < len(text) && text[i+1] >= 0x80 {
				pairs++
			}
		}
	}
	list := slices.Concat(narrow, wide)
	if pairs*4 > high*3 {
		list = slices.Concat(wide, narrow)
	}
	var ways, seen []string
	for _, charset := range list {
		all, ok := readAs(text, charset)
		if !ok || slices.Contains(seen, all) {
			continue
		}
		shown, ok := readAs(value, charset)
		if !ok {
			continue
		}
		seen = append(seen, all)
		if ways = append(ways, fmt.Sprintf("--encoding %s reads %q", charset, shown)); len(ways) == maxOffered {
			break
		}
	}
	if len(ways) == 0 {
		return "--encoding names its encoding"
	}
	return "name its encoding: " + strings.Join(ways, ", ")
}

// valueAround returns the value around byte at of text, shortened.
func valueAround(text []byte, at int) []byte {
	const maxShown = 20
	ends := ",;|\t\r\n\""
	from, end := at, at
	for from > 0 && at-from < maxShown && !strings.ContainsRune(ends, rune(text[from-1])) {
		from--
	}
	for end < len(text) && end-at < maxShown && !strings.ContainsRune(ends, rune(text[end])) {
		end++
	}
	return text[from:end]
}

// readAs returns text in UTF-8, and whether each byte is a valid and visible character of an
// encoding.
func readAs(text []byte, charset string) (string, bool) {
	r, err := decodeText(bytes.NewReader(text), charset)
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", false
	}
	for _, c := range string(b) {
		if c >= 0x80 && !unicode.IsPrint(c) && c != 0xa0 {
			return "", false
		}
	}
	return string(b), true
}

// errNotUTF8 returns the error of text with invalid UTF-8. first is the place of text in the
// file, and line its line.
func errNotUTF8(text []byte, first, line int64) error {
	at := invalidAt(text)
	return fmt.Errorf("is not UTF-8: byte %d, in line %d, is 0x%02x; %s", first+int64(at), line+int64(bytes.Count(text[:at], []byte{'\n'})), text[min(at, len(text)-1)], offered(text))
}

// recordNotUTF8 returns the error of a record with invalid UTF-8. first is the record's place in
// the file. text, if not nil, is the text from the record on, for offers of encodings.
func recordNotUTF8(record []byte, first int64, text []byte) error {
	at := invalidAt(record)
	err := fmt.Errorf("byte %d is 0x%02x, which is not UTF-8", first+int64(at), record[min(at, len(record)-1)])
	if text == nil {
		return err
	}
	return fmt.Errorf("%w; %s", err, offered(text[:min(len(text), headBytes)]))
}

// utf16 returns the name of the encoding of text in UTF-16 without a byte order mark; empty: the
// text is none. Each end of a line is then two bytes, one of them 0, and all other zeros stand on
// the same side.
func utf16(text []byte) string {
	var zeros, ends [2]int
	for i, b := range text {
		switch {
		case b == 0:
			zeros[i%2]++
		case b == '\n':
			ends[i%2]++
		}
	}
	switch {
	case len(text) < 4:
	case zeros[0] == 0 && zeros[1] > 0 && ends[0] > 0 && ends[1] == 0 && zeros[1] >= ends[0]:
		if _, ok := readAs(text[:len(text)&^1], "utf-16le"); ok && spaced(text, 0) {
			return "utf-16le"
		}
	case zeros[1] == 0 && zeros[0] > 0 && ends[1] > 0 && ends[0] == 0 && zeros[0] >= ends[1]:
		if _, ok := readAs(text[:len(text)&^1], "utf-16be"); ok && spaced(text, 1) {
			return "utf-16be"
		}
	}
	return ""
}

// spaced reports whether a zero stands beside each end of a line; low is the place of its other
// byte in a character.
func spaced(text []byte, low int) bool {
	for i := low; i < len(text); i += 2 {
		if other := i ^ 1; text[i] == '\n' && other < len(text) && text[other] != 0 {
			return false
		}
	}
	return true
}
