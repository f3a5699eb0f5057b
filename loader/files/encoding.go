package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"bulkload/loader/failure"
)

// encodings are names that neither the web nor IANA registers: PostgreSQL's (its manual, 24.3)
// and code pages of DOS and Windows. They are in lower case and without punctuation.
var encodings = map[string]encoding.Encoding{
	"latin1": charmap.ISO8859_1, "iso88591": charmap.ISO8859_1, "l1": charmap.ISO8859_1, "cp819": charmap.ISO8859_1, "latin2": charmap.ISO8859_2, "latin3": charmap.ISO8859_3, "latin4": charmap.ISO8859_4,
	"latin5": charmap.ISO8859_9, "latin6": charmap.ISO8859_10, "latin7": charmap.ISO8859_13, "latin8": charmap.ISO8859_14,
	"latin9": charmap.ISO8859_15, "latin10": charmap.ISO8859_16, "iso88599": charmap.ISO8859_9,
	"win866": charmap.CodePage866, "win874": charmap.Windows874, "win1250": charmap.Windows1250, "win1251": charmap.Windows1251,
	"win": charmap.Windows1251, "alt": charmap.CodePage866, "koi8": charmap.KOI8R,
	"win1252": charmap.Windows1252, "win1253": charmap.Windows1253, "win1254": charmap.Windows1254, "win1255": charmap.Windows1255,
	"win1256": charmap.Windows1256, "win1257": charmap.Windows1257, "win1258": charmap.Windows1258,
	"abc": charmap.Windows1258, "tcvn": charmap.Windows1258, "vscii": charmap.Windows1258,
	"koi8r": charmap.KOI8R, "koi8u": charmap.KOI8U,
	"cp437": charmap.CodePage437, "cp850": charmap.CodePage850, "cp852": charmap.CodePage852, "cp855": charmap.CodePage855,
	"cp858": charmap.CodePage858, "cp860": charmap.CodePage860, "cp862": charmap.CodePage862, "cp863": charmap.CodePage863,
	"cp865": charmap.CodePage865, "cp866": charmap.CodePage866, "cp1047": charmap.CodePage1047, "cp037": charmap.CodePage037, "cp1140": charmap.CodePage1140,
	"cp874": charmap.Windows874, "cp1250": charmap.Windows1250, "cp1251": charmap.Windows1251, "cp1252": charmap.Windows1252,
	"cp1253": charmap.Windows1253, "cp1254": charmap.Windows1254, "cp1255": charmap.Windows1255, "cp1256": charmap.Windows1256,
	"cp1257": charmap.Windows1257, "cp1258": charmap.Windows1258,
	"cp932": japanese.ShiftJIS, "sjis": japanese.ShiftJIS, "mskanji": japanese.ShiftJIS, "win932": japanese.ShiftJIS, "windows932": japanese.ShiftJIS,
	"eucjp": japanese.EUCJP,
	"cp936": simplifiedchinese.GBK, "win936": simplifiedchinese.GBK, "windows936": simplifiedchinese.GBK, "gb18030": simplifiedchinese.GB18030,
	"euccn": simplifiedchinese.GBK,
	"cp949": korean.EUCKR, "uhc": korean.EUCKR, "win949": korean.EUCKR, "windows949": korean.EUCKR, "euckr": korean.EUCKR,
	"cp950": traditionalchinese.Big5, "win950": traditionalchinese.Big5, "windows950": traditionalchinese.Big5, "big5": traditionalchinese.Big5,
	"mac": charmap.Macintosh, "macroman": charmap.Macintosh,
}

// encodingOf returns the encoding with a name; nil is UTF-8.
func encodingOf(name string) (encoding.Encoding, error) {
	plain := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(name))
	switch plain {
	case "utf8", "unicode", "sqlascii", "utf8sig", "usascii", "ascii":
		return nil, nil
	case "utf16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), nil
	case "utf16be", "utf16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), nil
	}
	if strings.HasPrefix(plain, "ibm") {
		plain = "cp" + plain[len("ibm"):]
	}
	if e := encodings[plain]; e != nil {
		return e, nil
	}
	if part, ok := strings.CutPrefix(plain, "iso8859"); ok {
		name = "iso-8859-" + part // PostgreSQL writes ISO_8859_5
	}
	if e, err := htmlindex.Get(name); err == nil {
		return e, nil
	}
	if e, err := ianaindex.IANA.Encoding(name); err == nil && e != nil {
		return e, nil
	}
	return nil, failure.New(failure.Usage, fmt.Sprintf("unknown encoding %q; utf-8, utf-16, latin1, win1252, cp850, shift_jis and gbk are some of the known ones", name))
}

// decodeText returns text in UTF-8. Invalid input is an error with line and byte; no
// replacement character stands for it.
func decodeText(r io.Reader, charset string) (io.Reader, error) {
	e, err := encodingOf(charset)
	if err != nil || e == nil {
		return r, err
	}
	return &strictReader{in: r, e: e, d: e.NewDecoder(), charset: charset, line: 1, buf: make([]byte, 16<<10), dst: make([]byte, 64<<10)}, nil
}

// A strictReader decodes text, and returns an error where a decoder writes a replacement
// character for invalid input. A replacement character in the text itself is valid.
type strictReader struct {
	in      io.Reader
	e       encoding.Encoding
	d       *encoding.Decoder
	charset string

	at   int64 // decoded bytes of in
	line int64
	buf  []byte
	src  []byte // read but not decoded, in buf
	dst  []byte
	out  []byte // decoded but not returned, in dst
	eof  bool
	err  error
}

// mostCharBytes exceeds the longest character of any encoding.
const mostCharBytes = 64

func (s *strictReader) Read(b []byte) (int, error) {
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.out, s.err = s.decode()
	}
	n := copy(b, s.out)
	s.out = s.out[n:]
	return n, nil
}

// decode reads and decodes more text. Text returned beside an error is valid.
func (s *strictReader) decode() ([]byte, error) {
	if !s.eof && len(s.src) < mostCharBytes {
		s.src = s.buf[:copy(s.buf, s.src)]
		n, err := s.in.Read(s.buf[len(s.src):])
		s.src = s.buf[:len(s.src)+n]
		if s.eof = errors.Is(err, io.EOF); err != nil && !s.eof {
			return nil, err
		}
	}
	nd, ns, err := s.d.Transformer.Transform(s.dst, s.src, s.eof)
	out, read := s.dst[:nd], s.src[:ns]
	if at := bytes.Index(out, []byte("\uFFFD")); at >= 0 {
		if i, bad := s.invalid(read); bad {
			return nil, fmt.Errorf("line %d: byte %d, 0x%02x, is not valid in %s; --encoding names another", s.line+int64(bytes.Count(out[:at], []byte{'\n'})), s.at+int64(i), read[i], s.charset)
		}
	}
	s.line += int64(bytes.Count(out, []byte{'\n'}))
	s.at += int64(ns)
	s.src = s.src[ns:]
	switch {
	case errors.Is(err, transform.ErrShortDst), errors.Is(err, transform.ErrShortSrc) && !s.eof:
		return out, nil // go on
	case err != nil:
		return out, err
	case s.eof && len(s.src) == 0:
		return out, io.EOF
	}
	return out, nil
}

// invalid returns the place of the first byte of read that does not survive decoding and
// encoding again. The character U+FFFD itself does survive.
func (s *strictReader) invalid(read []byte) (int, bool) {
	d := s.e.NewDecoder()
	for i := 0; i < len(read); {
		// The next character: the fewest bytes that decode to one.
		n := 1
		for ; n <= 4 && i+n <= len(read); n++ {
			text, err := d.Bytes(read[i : i+n])
			r, size := utf8.DecodeRune(text)
			if err == nil && size == len(text) && size > 0 && r != utf8.RuneError {
				break
			}
			if wide := s.charset[:min(len(s.charset), 5)]; n == 2 && strings.EqualFold(wide, "utf-1") && (read[i] == 0xfd && read[i+1] == 0xff || read[i] == 0xff && read[i+1] == 0xfd) {
				break // the character itself
			}
			if back, err := s.e.NewEncoder().Bytes(text); err == nil && size == len(text) && bytes.Equal(back, read[i:i+n]) {
				break
			}
		}
		if n > 4 || i+n > len(read) {
			return i, true
		}
		i += n
	}
	return 0, false
}
