package anytable

import (
	"fmt"
	"slices"
	"strings"

	"bulkload/loader/dataset"
)

// A part is a piece of a pattern.
type part struct {
	literal []byte
	list    []string
	digits  int  // decimal digits
	letters int  // small letters
	hex     int  // hexadecimal digits
	code    bool // the index in base 36
	words   int  // up to so many words
	number  uint64
	uuid    bool
}

// compilePattern compiles a pattern: # is a digit, ? a letter, {name} a word of a list or one of
// the names below, and a backslash makes the next character stand for itself. Appended to a name,
// |lower makes its letters small and |1 leaves the first one.
//
//	{n}      the index, in base 36 with width digits
//	{words}  a few words           {sentence} a sentence, {text} several
//	{hex16}  16 hexadecimal digits (any number)
//	{int100} a number below 100    (any number)
//	{uuid}   a random UUID
func compilePattern(pattern string, width, maxLen int) (appender, error) {
	parts, err := parsePattern(pattern)
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 && parts[0].list != nil {
		list := parts[0].list
		return func(buf []byte, i, _ uint64) []byte {
			from := len(buf)
			return cut(append(buf, list[dataset.Below(dataset.Mix(i), uint64(len(list)))]...), from, maxLen)
		}, nil
	}
	return func(buf []byte, i, random uint64) []byte {
		from := len(buf)
		r := random
		for k := range parts {
			p := &parts[k]
			if p.literal != nil {
				buf = append(buf, p.literal...)
				continue
			}
			if p.code {
				buf = appendCode(buf, i, width)
				continue
			}
			r = dataset.Mix(r + 0x9e3779b97f4a7c15)
			buf = p.append(buf, r)
		}
		return cut(buf, from, maxLen)
	}, nil
}

const (
	digits  = "0123456789abcdefghijklmnopqrstuvwxyz"
	letters = "abcdefghijklmnopqrstuvwxyz"
)

// append appends a part that depends on a random number.
func (p *part) append(buf []byte, r uint64) []byte {
	switch {
	case p.list != nil:
		return append(buf, p.list[dataset.Below(r, uint64(len(p.list)))]...)
	case p.digits > 0:
		for range p.digits {
			buf = append(buf, '0'+byte(r%10))
			r /= 10
		}
	case p.letters > 0:
		for range p.letters {
			buf = append(buf, letters[r%26])
			r /= 26
		}
	case p.hex > 0:
		for k := range p.hex {
			if k > 0 && k%16 == 0 {
				r = dataset.Mix(r + uint64(k))
			}
			buf = append(buf, digits[r>>(4*uint(k%16))&15])
		}
	case p.number > 0:
		buf = fmt.Appendf(buf, "%d", dataset.Below(r, p.number))
	case p.uuid:
		buf = appendUUID(buf, r, dataset.Mix(r^0x5bd1e995))
	case p.words > 0:
		n := 1 + r%uint64(p.words)
		if p.words > 4 {
			n = uint64(p.words)/2 + r%uint64(p.words/2+1)
		}
		for k := range n {
			if k > 0 {
				buf = append(buf, ' ')
			}
			buf = append(buf, words[dataset.Below(dataset.Random(r, k), uint64(len(words)))]...)
		}
	}
	return buf
}

// appendCode appends i in base 36 with at least width digits.
func appendCode(buf []byte, i uint64, width int) []byte {
	var text [16]byte
	at := len(text)
	for n := 0; n < width || i > 0; n++ {
		at--
		text[at] = digits[i%36]
		i /= 36
	}
	return append(buf, text[at:]...)
}

// codes returns 36 to the power of width, at most 2^62.
func codes(width int) uint64 {
	n := uint64(1)
	for range width {
		if n > 1<<62/36 {
			return 1 << 62
		}
		n *= 36
	}
	return n
}

// codeWidth returns the width of the codes of n indexes.
func codeWidth(n uint64) int {
	w := 1
	for codes(w) < n {
		w++
	}
	return w
}

func parsePattern(text string) ([]part, error) {
	var parts []part
	literal := func(b ...byte) {
		if n := len(parts); n == 0 || parts[n-1].literal == nil {
			parts = append(parts, part{literal: []byte{}})
		}
		p := &parts[len(parts)-1]
		p.literal = append(p.literal, b...)
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			if i++; i == len(text) {
				return nil, fmt.Errorf("the pattern %q ends with a backslash", text)
			}
			literal(text[i])
		case '#':
			if n := len(parts); n > 0 && parts[n-1].digits > 0 && parts[n-1].digits < 18 {
				parts[n-1].digits++
			} else {
				parts = append(parts, part{digits: 1})
			}
		case '?':
			if n := len(parts); n > 0 && parts[n-1].letters > 0 && parts[n-1].letters < 13 {
				parts[n-1].letters++
			} else {
				parts = append(parts, part{letters: 1})
			}
		case '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("the pattern %q has { without }", text)
			}
			p, err := namedPart(text[i+1 : i+end])
			if err != nil {
				return nil, fmt.Errorf("the pattern %q: %w", text, err)
			}
			parts = append(parts, p)
			i += end
		default:
			literal(c)
		}
	}
	return parts, nil
}

func namedPart(text string) (part, error) {
	name, how, _ := strings.Cut(text, "|")
	var n int
	switch {
	case name == "n":
		return part{code: true}, nil
	case name == "words":
		return part{words: 3}, nil
	case name == "sentence":
		return part{words: 10}, nil
	case name == "text":
		return part{words: 30}, nil
	case name == "uuid":
		return part{uuid: true}, nil
	case scanned(name, "hex%d", &n) && n > 0 && n <= 4096:
		return part{hex: n}, nil
	case scanned(name, "int%d", &n) && n > 0:
		return part{number: uint64(n)}, nil
	}
	list := lists[name]
	if list == nil {
		return part{}, fmt.Errorf("no list %q; there are %s", name, strings.Join(listNames(), ", "))
	}
	if how != "" {
		list = slices.Clone(list)
	}
	for way := range strings.SplitSeq(how, "|") {
		for i, w := range list {
			switch way {
			case "":
			case "lower":
				list[i] = strings.ToLower(w)
			case "upper":
				list[i] = strings.ToUpper(w)
			case "plain":
				list[i] = plain(w)
			case "1":
				list[i] = w[:1]
			default:
				return part{}, fmt.Errorf("unknown |%s; there are lower, upper, plain and 1", way)
			}
		}
	}
	return part{list: list}, nil
}

// plain returns the letters and digits of a word, as small letters.
func plain(w string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, w)
}

func scanned(text, format string, n *int) bool {
	got, err := fmt.Sscanf(text, format, n)
	return err == nil && got == 1 && fmt.Sprintf(format, *n) == text
}
