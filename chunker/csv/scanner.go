package csv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A Scanner finds the ends of records in a buffer, from its beginning on. It parses
// nothing: it looks for ends of lines and counts the quotes in front, 64 bytes at a
// time. The zero value with Dialect and Buf set begins at At.
type Scanner struct {
	Dialect
	Buf []byte // begins between two records
	// EOF says that Buf is the rest of the file: what has no end of line ends
	// with it. Else it is left for a Buf that holds more.
	EOF bool
	// At is behind the last record that was found. Rows and Lines count the
	// records up to it, and the ends of lines in them, those within quotes too.
	At          int
	Rows, Lines int64

	// No quote and no CR stands between At and these places, which spares most
	// blocks the search for them.
	quote, cr int
}

// Skip goes on to the next record, and over as many more as there are while Rows stays
// at most rows and At stays below size; it reports whether it found any. When it finds
// none, Buf does not hold the whole record; with EOF, and Buf not at its end, a quote is
// not closed.
func (s *Scanner) Skip(rows int64, size int) bool {
	from := s.Rows
	more := func() bool {
		return s.Rows < rows && s.At < len(s.Buf) && (s.At < size || s.Rows == from)
	}
	if s.Quote != 0 && s.Escape != 0 && s.Escape != s.Quote {
		for more() {
			end, lines := s.escaped(s.At)
			if end < 0 {
				break
			}
			s.found(end, lines)
		}
		return s.Rows > from
	}
	var open uint64 // all ones where the block begins within quotes
	var lines int64 // ends of line between At and the block
	var last ending
	for at := s.At; at < len(s.Buf) && s.Rows < rows; at += blockBytes {
		if calm := at + quietBytes; open == 0 && calm <= min(len(s.Buf), size, s.quote, s.cr) {
			// Neither quotes nor CRs: counting ends of line is all there is to do.
			if n := int64(bytes.Count(s.Buf[at:calm], newline)); n > 0 && s.Rows+n <= rows {
				s.At = at + bytes.LastIndexByte(s.Buf[at:calm], '\n') + 1
				s.Rows += n
				s.Lines += lines + n
				at, lines, last = calm-blockBytes, 0, ending{}
				continue
			}
		}
		quotes, ends := s.block(at)
		within := odd(quotes) ^ open
		open = -(within >> 63)
		records := ends &^ within
		n := int64(bits.OnesCount64(records))
		if s.Rows+n <= rows && at+blockBytes <= size {
			// Where the last of them ends is looked at when no other follows.
			if n > 0 {
				last = ending{at, records, ends, lines}
				s.Rows += n
			}
			lines += int64(bits.OnesCount64(ends))
			continue
		}
		lines -= s.settle(last)
		last = ending{}
		records, ends = inOrder(records), inOrder(ends)
		for ; records != 0 && more(); records &= records - 1 {
			i := bits.TrailingZeros64(records)
			upTo := uint64(2)<<i - 1
			s.found(at+i+1, lines+int64(bits.OnesCount64(ends&upTo)))
			ends, lines = ends&^upTo, 0
		}
		if !more() {
			return true
		}
		lines += int64(bits.OnesCount64(ends))
	}
	lines -= s.settle(last)
	if s.EOF && open == 0 && more() {
		s.found(len(s.Buf), lines+1)
	}
	if more() {
		s.quote, s.cr = 0, 0 // they are about what is far behind At
	}
	return s.Rows > from
}

// found counts the record that ends in front of end.
func (s *Scanner) found(end int, lines int64) {
	s.At = end
	s.Rows++
	s.Lines += lines
}

// An ending is a block with records that are in Rows, and not yet in At and Lines.
type ending struct {
	at            int
	records, ends uint64 // masks of their ends, and of all ends of line
	lines         int64  // in front of the block, and behind At
}

// settle moves At behind the last record of an ending, and returns the lines up to it.
func (s *Scanner) settle(e ending) int64 {
	if e.records == 0 {
		return 0
	}
	i := bits.Len64(inOrder(e.records)) // behind it, in the block
	s.At = e.at + i
	n := e.lines + int64(bits.OnesCount64(inOrder(e.ends)<<(blockBytes-i)))
	s.Lines += n
	return n
}

// quietBytes is the length of text that is looked at as a whole where that can be done.
const quietBytes = 4 << 10

var newline = []byte{'\n'}

// blockBytes is the number of bytes that are looked at at once, as eight words. What is
// found of them is a mask: bit j of its byte i is about byte i of word j, which is how
// the comparisons of words fit into one without being taken apart.
const blockBytes = 64

// block returns the masks of the quotes, and of the last bytes of ends of lines, in the
// block at at.
func (s *Scanner) block(at int) (quotes, ends uint64) {
	b := s.Buf[at:]
	if len(b) < blockBytes {
		b = append(make([]byte, 0, blockBytes), b...)[:blockBytes]
	}
	words := (*[blockBytes]byte)(b)
	ends = places(words, '\n')
	switch {
	case s.Quote == 0:
		s.quote = len(s.Buf)
	case s.quote < at+blockBytes:
		if quotes = places(words, s.Quote); quotes == 0 {
			s.quote = index(s.Buf, at+blockBytes, s.Quote)
		}
	}
	if s.cr >= at+blockBytes {
		return quotes, ends
	}
	crs := places(words, '\r')
	if crs == 0 {
		s.cr = index(s.Buf, at+blockBytes, '\r')
		return quotes, ends
	}
	// A CR ends a line unless an LF follows, which then does. What follows the last
	// byte of a word is the first of the next.
	alone := crs &^ (ends>>8 | ends&0xff>>1<<56)
	if alone != 0 {
		last := min(at+blockBytes, len(s.Buf)) - 1
		if s.Buf[last] == '\r' && (last+1 < len(s.Buf) && s.Buf[last+1] == '\n' || last+1 == len(s.Buf) && !s.EOF) {
			i := last - at
			alone &^= 1 << (i%8*8 + i/8) // or more of the file tells
		}
	}
	return quotes, ends | alone
}

// places returns the mask of the bytes of a block that are c.
func places(b *[blockBytes]byte, c byte) uint64 {
	pattern := 0x0101010101010101 * uint64(c)
	le := binary.LittleEndian
	return ^(others(le.Uint64(b[0:])^pattern)>>7 |
		others(le.Uint64(b[8:])^pattern)>>6 |
		others(le.Uint64(b[16:])^pattern)>>5 |
		others(le.Uint64(b[24:])^pattern)>>4 |
		others(le.Uint64(b[32:])^pattern)>>3 |
		others(le.Uint64(b[40:])^pattern)>>2 |
		others(le.Uint64(b[48:])^pattern)>>1 |
		others(le.Uint64(b[56:])^pattern))
}

// others returns the high bit of each byte of x that is not zero.
func others(x uint64) uint64 {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	return (x&low + low | x) & high
}

// odd returns the mask of the bytes that have an odd number of those in m up to
// themselves.
func odd(m uint64) uint64 {
	// 1. Those of the same word, in all words at once.
	m ^= m << 8
	m ^= m << 16
	m ^= m << 32
	// 2. The last byte of each word tells of the whole word, and those in front of
	// it are to be added.
	words := m >> 56
	words ^= words << 1
	words ^= words << 2
	words ^= words << 4
	return m ^ words<<1&0xff*0x0101010101010101
}

// inOrder returns a mask with bit i about byte i of the block: a matrix of 8 by 8 bits
// transposed (Warren, Hacker's Delight, 7-3).
func inOrder(m uint64) uint64 {
	t := (m ^ m>>7) & 0x00aa00aa00aa00aa
	m ^= t ^ t<<7
	t = (m ^ m>>14) & 0x0000cccc0000cccc
	m ^= t ^ t<<14
	t = (m ^ m>>28) & 0x00000000f0f0f0f0
	return m ^ t ^ t<<28
}

// index returns the place of c in buf from at on, or len(buf).
func index(buf []byte, at int, c byte) int {
	if at < len(buf) {
		if i := bytes.IndexByte(buf[at:], c); i >= 0 {
			return at + i
		}
	}
	return len(buf)
}

// escaped returns where the record that begins at at ends, behind its end of line, and
// the lines in it; -1 where buf does not hold all of it. It is for an escape that is
// not the quote: what counts then depends on the character in front.
func (s *Scanner) escaped(at int) (end int, lines int64) {
	open := false
	for i := at; i < len(s.Buf); i++ {
		switch b := s.Buf[i]; {
		case open && b == s.Escape:
			if i+1 < len(s.Buf) && (s.Buf[i+1] == s.Escape || s.Buf[i+1] == s.Quote) {
				i++
			}
		case b == s.Quote:
			open = !open
		case b == '\n' || b == '\r':
			end, ok := s.lineEnd(i)
			if !ok {
				return -1, 0
			}
			if lines++; !open {
				return end, lines
			}
			i = end - 1
		}
	}
	if open || !s.EOF {
		return -1, 0
	}
	return len(s.Buf), lines + 1
}

// lineEnd returns the position behind the end of line at line; false where more of
// the file is needed to know it.
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

// LineLen returns the length of the first line of buf, its end included; len(buf) where
// it has no end.
func LineLen(buf []byte) int {
	s := Scanner{Buf: buf, EOF: true}
	line := min(index(buf, 0, '\n'), index(buf, 0, '\r'))
	end, _ := s.lineEnd(line)
	return end
}
