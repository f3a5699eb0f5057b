package files

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// form returns how a file is compressed, by its first bytes.
func form(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	}
	return ""
}

// marked returns the encoding that a byte order mark names, if it is not UTF-8.
func marked(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return "utf-16le"
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "utf-16be"
	}
	return ""
}

// decoderOf returns the decoder of an encoding, by the names that the web uses.
func decoderOf(charset string) (*encoding.Decoder, error) {
	switch strings.ToLower(charset) {
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder(), nil
	case "utf-16be", "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder(), nil
	}
	e, err := htmlindex.Get(charset)
	if err != nil {
		return nil, fmt.Errorf("encoding %q is not known; utf-8, utf-16, latin1, windows-1252, shift_jis and gbk are among those that are", charset)
	}
	return e.NewDecoder(), nil
}

// decode unpacks and decodes what is stored.
func decode(stored io.ReadCloser, f *File) (io.ReadCloser, error) {
	d := &decoded{Reader: stored, close: []func(){func() { stored.Close() }}}
	switch f.Form {
	case "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(stored, HeadBytes))
		if err != nil {
			return nil, err
		}
		d.Reader, d.close = z, append(d.close, func() { z.Close() })
	case "zstd":
		z, err := zstd.NewReader(stored, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, err
		}
		d.Reader, d.close = z, append(d.close, z.Close)
	}
	charset := f.Encoding
	if charset == "" && f.Form != "" {
		b := bufio.NewReaderSize(d.Reader, HeadBytes)
		head, _ := b.Peek(2)
		d.Reader, charset = b, marked(head)
	}
	if charset != "" {
		e, err := decoderOf(charset)
		if err != nil {
			return nil, err
		}
		d.Reader = transform.NewReader(d.Reader, e)
	}
	return d, nil
}

// decoded closes everything that was opened, the last first.
type decoded struct {
	io.Reader
	close []func()
}

func (d *decoded) Close() error {
	for _, c := range slices.Backward(d.close) {
		c()
	}
	return nil
}
