package csv

import (
	"bytes"
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
		if quiet := at + quietBytes; open == 0 && quiet <= min(len(s.Buf), size, s.quote, s.cr) && (at == begin || s.Quote == 0 || s.Buf[at-1] != s.Quote) {
			// Without quotes and CRs, counting line ends is enough.
			if n := int64(bytes.Count(s.Buf[at:quiet], newline)); n > 0 && s.Rows+n <= rows {
				s.At = at + bytes.LastIndexByte(s.Buf[at:quiet], '\n') + 1
				s.Rows += n
				s.Lines += lines + n
				at, lines, last = quiet-blockBytes, 0, ending{}
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
