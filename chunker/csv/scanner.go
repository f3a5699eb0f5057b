package csv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A Scanner finds the ends of records in a buffer. It parses no fields: it looks for line ends
// and counts the quotes before them, 64 bytes at a time. Set Dialect and Buf before use; the
// scan starts at At.
type Scanner struct {
	Dialect
	Buf []byte // starts at the start of a record
	// EOF says that Buf ends with the file: text without a line end is then the last record.
	// Otherwise such text waits for a Buf that holds more.
	EOF bool
	// At is the end of the last record found. Rows counts the records before At, Lines their
	// line ends, including those within quotes.
	At          int
	Rows, Lines int64
	// Stray says that a record has a quote within a field, or text after a closing quote; other
	// readers treat such text differently. Multiline says that a record has a line end within
	// quotes. Both cover the records before At, and maybe some more.
	Stray, Multiline bool

	// No quote or CR lies between At and these positions, so most blocks need no search for
	// them.
	quote, cr int
	pad       [blockBytes]byte // copy of the last, partial block of Buf, with zeros after it
}

// Skip finds the next record, and further ones while Rows is below rows and At is below size.
// It reports whether it found any. If not, Buf does not hold the whole record; with EOF set and
// At before the end of Buf, a quote is not closed.
func (s *Scanner) Skip(rows int64, size int) bool {
	if s.Text {
		return s.skipText(rows, size)
	}
	from := s.Rows
	for {
		stray := s.skip(rows, size, from)
		if !stray {
			return s.Rows > from
		}
		if s.Rows > from && s.At >= size {
			return true // the records before the irregular one are enough
		}
		// Counting quotes does not explain this quote, so this record is read byte by byte.
		if !s.slow() {
			return s.Rows > from
		}
		if s.Rows >= rows || s.At >= size || s.At >= len(s.Buf) {
			return true
		}
	}
}

// slow finds the record at At byte by byte. It reports false if Buf does not hold the whole
// record.
func (s *Scanner) slow() bool {
	end, lines := s.record(s.At)
	if end < 0 {
		return false
	}
	s.found(end, lines)
	s.quote, s.cr = 0, 0
	return true
}

// skip is Skip for regular records: each quote opens or closes a field, or belongs to a pair
// within quotes. Then the parity of the quotes shows which bytes are quoted. It reports true if
// an irregular record follows at At.
func (s *Scanner) skip(rows int64, size int, from int64) (stray bool) {
	more := func() bool {
		return s.Rows < rows && s.At < len(s.Buf) && (s.At < size || s.Rows == from)
	}
	if s.Quote != 0 && s.Escape != 0 && s.Escape != s.Quote {
		for more() && s.slow() {
		}
		return false
	}
	var open uint64 // all ones if the block starts within quotes
	var lines int64 // line ends between At and the block
	var last ending
	begin := s.At
	for at := s.At; at < len(s.Buf) && s.Rows < rows; at += blockBytes {
		if calm := at + quietBytes; open == 0 && calm <= min(len(s.Buf), size, s.quote, s.cr) && (at == begin || s.Quote == 0 || s.Buf[at-1] != s.Quote) {
			// Without quotes and CRs, counting line ends is enough.
			if n := int64(bytes.Count(s.Buf[at:calm], newline)); n > 0 && s.Rows+n <= rows {
				s.At = at + bytes.LastIndexByte(s.Buf[at:calm], '\n') + 1
				s.Rows += n
				s.Lines += lines + n
				at, lines, last = calm-blockBytes, 0, ending{}
				continue
			}
		}
		quotes, ends, delimiters := s.block(at)
		within := odd(quotes) ^ open
		if s.Quote != 0 && s.stray(at, at == begin, quotes, ends|delimiters, within, open) {
			s.settle(last)
			s.Stray = true
			return true
		}
		if ends&within != 0 {
			s.Multiline = true
		}
		open = -(within >> 63)
		records := ends &^ within
		n := int64(bits.OnesCount64(records))
		if s.Rows+n <= rows && at+blockBytes <= size {
			// The end of the last record is located only when no other record follows.
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
			return false
		}
		lines += int64(bits.OnesCount64(ends))
	}
	lines -= s.settle(last)
	if s.EOF && open == 0 && more() {
		s.found(len(s.Buf), lines+1)
	}
	if more() {
		s.quote, s.cr = 0, 0 // they describe positions far after At
	}
	return false
}

// stray reports whether the block at at has an irregular quote: one that opens after text, or
// one that closes before text. Adjacent quotes are one escaped quote. first says that the block
// starts at the start of a record. edges are the delimiters and line ends of a block with
// quotes.
func (s *Scanner) stray(at int, first bool, quotes, edges, within, open uint64) bool {
	var before byte
	if !first {
		before = s.Buf[at-1]
	}
	closed := !first && open == 0 && before == s.Quote // at the end of the block in front
	if quotes == 0 && !closed {
		return false
	}
	if quotes == 0 {
		return s.Buf[at] != s.Delimiter && s.Buf[at] != '\n' && s.Buf[at] != '\r' ||
			s.Buf[at] == '\r' && !s.CR && at+1 < len(s.Buf) && s.Buf[at+1] != '\n'
	}
	begins := edges | quotes
	behind := begins<<8 | begins>>56<<1&0xff
	if first || before == s.Delimiter || before == s.Quote || before == '\n' || s.CR && before == '\r' {
		behind |= 1
	}
	if quotes&within&^behind != 0 {
		return true
	}
	closes := quotes &^ within
	next := closes<<8 | closes>>56<<1&0xff
	if closed {
		next |= 1
	}
	for odd := next &^ begins; odd != 0; odd &= odd - 1 {
		bit := bits.TrailingZeros64(odd)
		i := at + bit%8*8 + bit/8
		switch {
		case i >= len(s.Buf): // what follows is seen with more of the file
		case s.Buf[i] == '\r' && (i+1 == len(s.Buf) || s.Buf[i+1] == '\n'):
		default:
			return true
		}
	}
	return false
}

// found counts the record that ends at end.
func (s *Scanner) found(end int, lines int64) {
	s.At = end
	s.Rows++
	s.Lines += lines
}

// An ending is a block whose records are counted in Rows, but not yet in At and Lines.
type ending struct {
	at            int
	records, ends uint64 // masks of record ends, and of all line ends
	lines         int64  // line ends between At and the block
}

// settle moves At to the end of the last record of e, and returns the number of line ends up to
// there.
func (s *Scanner) settle(e ending) int64 {
	if e.records == 0 {
		return 0
	}
	i := bits.Len64(inOrder(e.records)) // its end, within the block
	s.At = e.at + i
	n := e.lines + int64(bits.OnesCount64(inOrder(e.ends)<<(blockBytes-i)))
	s.Lines += n
	return n
}

// quietBytes is the length of text that is scanned in one step if it has no quotes and no CRs.
const quietBytes = 4 << 10

var newline = []byte{'\n'}

// blockBytes is the number of bytes in a block, which is scanned as eight words. The result is
// a mask: bit j of its byte i stands for byte i of word j. In this order the comparison results
// of the words combine into one mask by shifts alone.
const blockBytes = 64

// block returns the masks of quotes and line ends in the block at at, and of delimiters if
// there are quotes. A line end is marked at its last byte.
func (s *Scanner) block(at int) (quotes, ends, delimiters uint64) {
	words := s.words(at)
	if s.Quote == 0 {
		s.quote = len(s.Buf)
	}
	if s.Quote != 0 && s.quote < at+blockBytes {
		if ends, quotes, delimiters = threePlaces(words, '\n', s.Quote, s.Delimiter); quotes == 0 {
			s.quote = index(s.Buf, at+blockBytes, s.Quote)
		}
	} else {
		ends = places(words, '\n')
	}
	if !s.CR {
		s.cr = len(s.Buf)
		return quotes, ends, delimiters
	}
	if s.cr >= at+blockBytes {
		return quotes, ends, delimiters
	}
	crs := places(words, '\r')
	if crs == 0 {
		s.cr = index(s.Buf, at+blockBytes, '\r')
		return quotes, ends, delimiters
	}
	// A CR ends a line unless an LF follows, which then ends the line itself. The byte after
	// the last byte of a word is the first byte of the next.
	alone := crs &^ (ends>>8 | ends&0xff>>1<<56)
	if alone != 0 {
		last := min(at+blockBytes, len(s.Buf)) - 1
		if s.Buf[last] == '\r' && (last+1 < len(s.Buf) && s.Buf[last+1] == '\n' || last+1 == len(s.Buf) && !s.EOF) {
			i := last - at
			alone &^= 1 << (i%8*8 + i/8) // or more of the file tells
		}
	}
	return quotes, ends | alone, delimiters
}

// words returns the block at at, padded with zeros at the end of Buf.
func (s *Scanner) words(at int) *[blockBytes]byte {
	b := s.Buf[at:]
	if len(b) < blockBytes {
		clear(s.pad[copy(s.pad[:], b):])
		return &s.pad
	}
	return (*[blockBytes]byte)(b)
}

// places returns the mask of the bytes equal to c.
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

// threePlaces returns the masks of three characters, and loads each word only once.
func threePlaces(b *[blockBytes]byte, x, y, z byte) (mx, my, mz uint64) {
	const each = 0x0101010101010101
	px, py, pz := each*uint64(x), each*uint64(y), each*uint64(z)
	le := binary.LittleEndian
	var w uint64
	if ascii(b) && (x|y|z) < 0x80 {
		const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
		w = le.Uint64(b[0:])
		mx |= ((w ^ px) + low) & high >> 7
		my |= ((w ^ py) + low) & high >> 7
		mz |= ((w ^ pz) + low) & high >> 7
		w = le.Uint64(b[8:])
		mx |= ((w ^ px) + low) & high >> 6
		my |= ((w ^ py) + low) & high >> 6
		mz |= ((w ^ pz) + low) & high >> 6
		w = le.Uint64(b[16:])
		mx |= ((w ^ px) + low) & high >> 5
		my |= ((w ^ py) + low) & high >> 5
		mz |= ((w ^ pz) + low) & high >> 5
		w = le.Uint64(b[24:])
		mx |= ((w ^ px) + low) & high >> 4
		my |= ((w ^ py) + low) & high >> 4
		mz |= ((w ^ pz) + low) & high >> 4
		w = le.Uint64(b[32:])
		mx |= ((w ^ px) + low) & high >> 3
		my |= ((w ^ py) + low) & high >> 3
		mz |= ((w ^ pz) + low) & high >> 3
		w = le.Uint64(b[40:])
		mx |= ((w ^ px) + low) & high >> 2
		my |= ((w ^ py) + low) & high >> 2
		mz |= ((w ^ pz) + low) & high >> 2
		w = le.Uint64(b[48:])
		mx |= ((w ^ px) + low) & high >> 1
		my |= ((w ^ py) + low) & high >> 1
		mz |= ((w ^ pz) + low) & high >> 1
		w = le.Uint64(b[56:])
		mx |= ((w ^ px) + low) & high >> 0
		my |= ((w ^ py) + low) & high >> 0
		mz |= ((w ^ pz) + low) & high >> 0
		return ^mx, ^my, ^mz
	}
	w = le.Uint64(b[0:])
	mx |= others(w^px) >> 7
	my |= others(w^py) >> 7
	mz |= others(w^pz) >> 7
	w = le.Uint64(b[8:])
	mx |= others(w^px) >> 6
	my |= others(w^py) >> 6
	mz |= others(w^pz) >> 6
	w = le.Uint64(b[16:])
	mx |= others(w^px) >> 5
	my |= others(w^py) >> 5
	mz |= others(w^pz) >> 5
	w = le.Uint64(b[24:])
	mx |= others(w^px) >> 4
	my |= others(w^py) >> 4
	mz |= others(w^pz) >> 4
	w = le.Uint64(b[32:])
	mx |= others(w^px) >> 3
	my |= others(w^py) >> 3
	mz |= others(w^pz) >> 3
	w = le.Uint64(b[40:])
	mx |= others(w^px) >> 2
	my |= others(w^py) >> 2
	mz |= others(w^pz) >> 2
	w = le.Uint64(b[48:])
	mx |= others(w^px) >> 1
	my |= others(w^py) >> 1
	mz |= others(w^pz) >> 1
	w = le.Uint64(b[56:])
	mx |= others(w^px) >> 0
	my |= others(w^py) >> 0
	mz |= others(w^pz) >> 0
	return ^mx, ^my, ^mz
}

// ascii reports whether no byte of the block is beyond ASCII. Then a sum of two bytes carries into
// no other one, which saves operations.
func ascii(b *[blockBytes]byte) bool {
	le := binary.LittleEndian
	all := le.Uint64(b[0:]) | le.Uint64(b[8:]) | le.Uint64(b[16:]) | le.Uint64(b[24:]) |
		le.Uint64(b[32:]) | le.Uint64(b[40:]) | le.Uint64(b[48:]) | le.Uint64(b[56:])
	return all&0x8080808080808080 == 0
}

// others returns the high bit of each nonzero byte of x.
func others(x uint64) uint64 {
	const low, high = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	return (x&low + low | x) & high
}

// odd returns the mask of the bytes with an odd number of bits of m up to and including their
// own.
func odd(m uint64) uint64 {
	// 1. Within each word, for all words at once.
	m ^= m << 8
	m ^= m << 16
	m ^= m << 32
	// 2. The last byte of each word has the parity of the whole word. Add the parities of the
	// words before.
	words := m >> 56
	words ^= words << 1
	words ^= words << 2
	words ^= words << 4
	return m ^ words<<1&0xff*0x0101010101010101
}

// inOrder returns a mask whose bit i stands for byte i of the block. It transposes a matrix of
// 8 by 8 bits (Warren, Hacker's Delight, 7-3).
func inOrder(m uint64) uint64 {
	t := (m ^ m>>7) & 0x00aa00aa00aa00aa
	m ^= t ^ t<<7
	t = (m ^ m>>14) & 0x0000cccc0000cccc
	m ^= t ^ t<<14
	t = (m ^ m>>28) & 0x00000000f0f0f0f0
	return m ^ t ^ t<<28
}

// index returns the position of c in buf, from at on, or len(buf).
func index(buf []byte, at int, c byte) int {
	if at < len(buf) {
		if i := bytes.IndexByte(buf[at:], c); i >= 0 {
			return at + i
		}
	}
	return len(buf)
}

// record returns the end of the record at at, after its line end, and its number of lines. It
// returns -1 if Buf does not hold the whole record.
func (s *Scanner) record(at int) (end int, lines int64) {
	escape := s.Escape
	if escape == 0 {
		escape = s.Quote
	}
	open, begins := false, true // within quotes; at the start of a field
	for i := at; i < len(s.Buf); i++ {
		switch b := s.Buf[i]; {
		case open && b == escape && (escape != s.Quote || i+1 < len(s.Buf) && s.Buf[i+1] == s.Quote):
			if i+1 < len(s.Buf) && (s.Buf[i+1] == escape || s.Buf[i+1] == s.Quote) {
				i++
			}
		case open && b == s.Quote:
			open = false
			if n := i + 1; n < len(s.Buf) && s.Buf[n] != s.Delimiter && s.Buf[n] != '\n' &&
				(s.Buf[n] != '\r' || !s.CR && n+1 < len(s.Buf) && s.Buf[n+1] != '\n') {
				s.Stray = true
			}
		case b == s.Quote && s.Quote != 0 && !open:
			if open = begins; !open {
				s.Stray = true
			}
			begins = false
		case b == '\n' || b == '\r' && s.CR:
			end, ok := s.lineEnd(i)
			if !ok {
				return -1, 0
			}
			if lines++; !open {
				return end, lines
			}
			s.Multiline = true
			i = end - 1
		default:
			begins = !open && b == s.Delimiter
		}
	}
	if open || !s.EOF {
		return -1, 0
	}
	return len(s.Buf), lines + 1
}

// lineEnd returns the position after the line end at line. It reports false if that depends on
// more of the file.
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

// LineLen returns the length of the first line of buf with its line end, or len(buf) if it has
// no line end.
func (d Dialect) LineLen(buf []byte) int {
	line := index(buf, 0, '\n')
	if !d.CR {
		return min(line+1, len(buf))
	}
	s := Scanner{Buf: buf, EOF: true}
	end, _ := s.lineEnd(min(line, index(buf, 0, '\r')))
	return end
}

// CountLines returns the number of line ends in buf.
func (d Dialect) CountLines(buf []byte) int64 {
	n := int64(bytes.Count(buf, newline))
	for d.CR {
		i := bytes.IndexByte(buf, '\r')
		if i < 0 {
			break
		}
		if i+1 == len(buf) || buf[i+1] != '\n' {
			n++
		}
		buf = buf[i+1:]
	}
	return n
}
