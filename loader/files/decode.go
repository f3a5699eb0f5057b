package files

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// form returns the compression of a file, by its first bytes; empty is none.
func form(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	case len(head) > 3 && bytes.HasPrefix(head, []byte("BZh")) && head[3] >= '1' && head[3] <= '9':
		return "bzip2"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	}
	return ""
}

// archive names an archive or binary format by a file's first bytes, with a way to load it;
// empty: the file may be text.
func archive(name string, head []byte) string {
	base := shown(name)
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		if bytes.Contains(head, []byte("[Content_Types].xml")) || bytes.Contains(head, []byte("xl/")) {
			return "is a spreadsheet (.xlsx), not CSV; save it as CSV"
		}
		return fmt.Sprintf("is a zip archive; unzip -p %s | loader csv - … loads the file in it", base)
	case len(head) > 262 && bytes.HasPrefix(head[257:], []byte("ustar")):
		return fmt.Sprintf("is a tar archive; tar -xOf %s FILE | loader csv - … loads a file in it", base)
	case bytes.HasPrefix(head, []byte("7z\xbc\xaf\x27\x1c")):
		return fmt.Sprintf("is a 7z archive; 7z e -so %s | loader csv - … loads the file in it", base)
	case bytes.HasPrefix(head, []byte("Rar!\x1a\x07")):
		return fmt.Sprintf("is a rar archive; unrar p -inul %s | loader csv - … loads the file in it", base)
	case bytes.HasPrefix(head, []byte("\x04\x22\x4d\x18")):
		return fmt.Sprintf("is compressed with lz4; lz4 -dc %s | loader csv - … loads it", base)
	case bytes.HasPrefix(head, []byte("\x1f\x9d")):
		return fmt.Sprintf("is compressed with compress; zcat %s | loader csv - … loads it", base)
	case bytes.HasPrefix(head, []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
		return "is a Microsoft Office document (.xls), not CSV; save it as CSV"
	case bytes.HasPrefix(head, []byte("\xff\xfe\x00\x00")), bytes.HasPrefix(head, []byte("\x00\x00\xfe\xff")):
		return fmt.Sprintf("is UTF-32; iconv -f utf-32 -t utf-8 %s | loader csv - … loads it", base)
	case bytes.HasPrefix(head, []byte("PAR1")):
		return "is a Parquet file, not CSV"
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return "is a SQLite database, not CSV; sqlite3 -csv -header FILE 'SELECT …' writes one"
	case bytes.HasPrefix(head, []byte("%PDF-")):
		return "is a PDF file, not CSV"
	case bytes.HasPrefix(head, []byte("PGDMP")):
		return "is a dump of pg_dump, not CSV; pg_restore loads it"
	}
	return ""
}

// marked returns the encoding of a byte order mark, unless it is UTF-8.
func marked(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return "utf-16le"
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "utf-16be"
	}
	return ""
}

// decode decompresses and decodes the stored bytes.
func decode(stored io.ReadCloser, f *File) (io.ReadCloser, error) {
	d := &decoded{Reader: stored, close: []func(){func() { stored.Close() }}}
	switch f.Form {
	case "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(stored, headBytes))
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
	case "bzip2":
		d.Reader = bzip2.NewReader(bufio.NewReaderSize(stored, headBytes))
	case "xz":
		z, err := xz.ReaderConfig{DictCap: 64 << 20}.NewReader(bufio.NewReaderSize(stored, headBytes))
		if err != nil {
			return nil, err
		}
		d.Reader = z
	}
	charset := f.Encoding
	if charset == "" && f.Form != "" {
		b := bufio.NewReaderSize(d.Reader, headBytes)
		head, _ := b.Peek(2)
		d.Reader, charset = b, marked(head)
	}
	if charset != "" {
		r, err := decodeText(d.Reader, charset)
		if err != nil {
			return nil, err
		}
		d.Reader = r
	}
	return d, nil
}

// decoded closes all opened readers, the last one first.
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
