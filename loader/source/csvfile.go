package source

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Stdin is the name of the file that is read from standard input.
const Stdin = "-"

// StreamSpace is the number of positions that a file takes whose length cannot be
// known before it was read: 16 TiB. Its last span covers what is left of them.
const StreamSpace = int64(1) << 44

// A File is one input of a load of CSV, as it is kept in the load's record. Its bytes
// have the positions from First on.
type File struct {
	// Name is an absolute path, a URL without its query, or Stdin. Queries hold
	// what gives access, and are not kept.
	Name  string `json:"name"`
	query string
	// Once says that it can be opened in this process only.
	Once  bool  `json:"once,omitempty"`
	First int64 `json:"first"`
	// Size is the number of its positions: its bytes, or StreamSpace.
	Size int64 `json:"size"`
	// Data is the number of decoded bytes before the first record: a byte order
	// mark, lines that are skipped, the header.
	Data int64 `json:"data"`
	// Stream says that it can only be read from its beginning: it is compressed,
	// in another encoding than UTF-8, or not on a disk.
	Stream   bool   `json:"stream,omitempty"`
	Encoding string `json:"encoding,omitempty"` // empty is UTF-8
	Form     string `json:"form,omitempty"`     // gzip, zstd; empty is plain
	// What is known of its content, to refuse another one at resume.
	Bytes    int64     `json:"bytes"` // as it is stored; -1 is unknown
	Modified time.Time `json:"modified,omitzero"`
	Hash     string    `json:"hash,omitempty"` // of samples of the stored bytes, or a server's ETag
}

// ErrChanged: a file is not the one that the load was begun with.
var ErrChanged = errors.New("the file has changed since the load began")

// ErrOnce: an input can be read in the process only that began with it.
var ErrOnce = errors.New("cannot be read a second time, so that the load cannot be resumed")

// A FileError says that an input cannot be read.
type FileError struct {
	Name string
	Err  error
}

func (e *FileError) Error() string {
	name, err := e.Name, e.Err
	if name == Stdin {
		name = "standard input"
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Sprintf("%s: %v", name, err)
}

func (e *FileError) Unwrap() error { return e.Err }

// Base returns the name without its directory, for messages.
func (f *File) Base() string {
	if f.Name == Stdin {
		return "stdin"
	}
	if isURL(f.Name) {
		return f.Name[strings.LastIndexByte(f.Name, '/')+1:]
	}
	return filepath.Base(f.Name)
}

// End returns the position behind the file.
func (f *File) End() int64 { return f.First + f.Size }

func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// Expand returns the names of files that arguments stand for: a path, a pattern of
// path/filepath where no file has that very name, Stdin, a URL, and @list for a file
// that names one of these a line. The names are absolute, and in the order given; the
// matches of a pattern are sorted.
func Expand(args []string) ([]string, error) {
	var names []string
	for _, a := range args {
		list, err := expand(a, true)
		if err != nil {
			return nil, err
		}
		names = append(names, list...)
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			return nil, &FileError{shown(n), errors.New("is named twice")}
		}
		seen[n] = true
	}
	return names, nil
}

func expand(arg string, lists bool) ([]string, error) {
	switch {
	case arg == Stdin || isURL(arg):
		return []string{arg}, nil
	case strings.Contains(arg, "://"):
		return nil, &FileError{arg[:strings.Index(arg, "://")+3] + "…", errors.New("only the server reads there; name a copy of the file that is here, to be compared with what arrives, and the location in --handoff")}
	case lists && strings.HasPrefix(arg, "@"):
		text, err := os.ReadFile(arg[1:])
		if err != nil {
			return nil, &FileError{arg[1:], err}
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			list, err := expand(line, false)
			if err != nil {
				return nil, err
			}
			names = append(names, list...)
		}
		if len(names) == 0 {
			return nil, &FileError{arg[1:], errors.New("names no file")}
		}
		return names, nil
	}
	if _, err := os.Stat(arg); err != nil && strings.ContainsAny(arg, "*?[") {
		list, err := filepath.Glob(arg)
		if err != nil {
			return nil, &FileError{arg, err}
		}
		if len(list) == 0 {
			return nil, &FileError{arg, errors.New("matches no file")}
		}
		for i := range list {
			if list[i], err = filepath.Abs(list[i]); err != nil {
				return nil, &FileError{list[i], err}
			}
		}
		slices.Sort(list)
		return list, nil
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return nil, &FileError{arg, err}
	}
	return []string{abs}, nil
}

// Inspect looks at the named files and lays them out one behind the other. charset
// names their encoding; empty is UTF-8, or what a byte order mark says.
func (in *Input) Inspect(ctx context.Context, names []string, charset string) ([]File, error) {
	if charset != "" {
		if _, err := decoderOf(charset); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(names))
	at := int64(0)
	for i, name := range names {
		f := &files[i]
		*f = File{Name: name, Encoding: charset, Bytes: -1, Once: name == Stdin}
		if isURL(name) {
			if err := f.splitURL(); err != nil {
				return nil, err
			}
		}
		head, err := in.peek(ctx, f)
		if err != nil {
			return nil, err
		}
		f.Form = form(head)
		if f.Encoding == "" && f.Form == "" {
			f.Encoding = marked(head)
		}
		if strings.EqualFold(f.Encoding, "utf-8") || strings.EqualFold(f.Encoding, "utf8") {
			f.Encoding = ""
		}
		f.Stream = f.Stream || f.Form != "" || f.Encoding != ""
		f.First, f.Size = at, f.Bytes
		if f.Stream {
			f.Size = StreamSpace
		}
		if at += f.Size; at < 0 || at > 1<<62 {
			return nil, &FileError{name, errors.New("too many files for one load")}
		}
	}
	return files, nil
}

// shown returns a name for messages, without what gives access in an address.
func shown(name string) string {
	if !isURL(name) {
		return name
	}
	u, err := url.Parse(name)
	if err != nil {
		return "the address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// splitURL takes the query out of the name.
func (f *File) splitURL() error {
	u, err := url.Parse(f.Name)
	name, query, _ := strings.Cut(f.Name, "?")
	switch {
	case err != nil || u.Host == "":
		f.Name = "the address"
		return &FileError{f.Name, errors.New("is not a URL")}
	case u.User != nil:
		return &FileError{shown(f.Name), errors.New("a user and a password in the address are not taken; fetch it with a tool of yours and pipe it in, with - as its name")}
	}
	f.Name, f.query = name, query
	f.Once = query != ""
	return nil
}

// An Input opens the files of a load. Stdin is read through it, so that its beginning
// can be looked at.
type Input struct {
	stdin *bufio.Reader
}

// HeadBytes is how much of a file is looked at to know its form, and mostly more than
// its first records.
const HeadBytes = 64 << 10

// NewInput returns an Input that reads Stdin from r.
func NewInput(r io.Reader) *Input { return &Input{stdin: bufio.NewReaderSize(r, HeadBytes)} }

// peek reads the stored beginning of a file and what identifies it.
func (in *Input) peek(ctx context.Context, f *File) ([]byte, error) {
	switch {
	case f.Name == Stdin:
		f.Stream = true
		head, err := in.stdin.Peek(HeadBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, &FileError{Stdin, err}
		}
		return head, nil
	case isURL(f.Name):
		f.Stream = true
		body, err := get(ctx, f)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		head, err := io.ReadAll(io.LimitReader(body, HeadBytes))
		if err != nil {
			return nil, &FileError{f.Name, err}
		}
		return head, nil
	}
	info, err := os.Stat(f.Name) // to open a pipe would wait for its writer
	switch {
	case err != nil:
		return nil, &FileError{f.Name, err}
	case info.IsDir():
		return nil, &FileError{f.Name, errors.New("is a directory; name its files, or a pattern such as " + filepath.Join(f.Base(), "*.csv"))}
	case !info.Mode().IsRegular():
		return nil, &FileError{f.Name, errors.New("is no regular file; pipe it in, with - as its name")}
	}
	file, err := os.Open(f.Name)
	if err != nil {
		return nil, &FileError{f.Name, err}
	}
	defer file.Close()
	f.Bytes, f.Modified = info.Size(), info.ModTime().UTC()
	if f.Hash, err = sample(file, f.Bytes); err != nil {
		return nil, &FileError{f.Name, err}
	}
	head := make([]byte, min(HeadBytes, f.Bytes))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, &FileError{f.Name, err}
	}
	return head, nil
}

// Sampling of a file for its hash.
const (
	samples     = 64
	sampleBytes = 64 << 10
)

// sample returns the SHA-256 of blocks spread over the file, its first and its last
// among them, and of the whole of a file of up to 4 MiB. Reading all of a large one
// would cost about as much as the load.
func sample(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, sampleBytes)
	step := max((size-sampleBytes)/(samples-1), sampleBytes)
	for at := int64(0); at < size; at += step {
		if size-at < step { // the last one ends with the file
			at = max(at-sampleBytes, 0, size-sampleBytes)
			step = size
		}
		n, err := r.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		h.Write(buf[:n])
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

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

// get asks a server for a file. The first time, what identifies it is kept in f.
func get(ctx context.Context, f *File) (io.ReadCloser, error) {
	address := f.Name
	if f.query != "" {
		address += "?" + f.query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &FileError{f.Name, errors.New("is not a URL")}
	}
	// Compression of the transfer would hide the file's own length.
	req.Header.Set("Accept-Encoding", "identity")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, &FileError{f.Name, errors.Unwrap(err)}
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, &FileError{f.Name, fmt.Errorf("the server answers %s", res.Status)}
	}
	modified, _ := http.ParseTime(res.Header.Get("Last-Modified"))
	tag := res.Header.Get("ETag")
	if f.Bytes < 0 && f.Hash == "" && f.Modified.IsZero() {
		f.Bytes, f.Modified, f.Hash = res.ContentLength, modified, tag
	} else if f.Bytes != res.ContentLength || !f.Modified.Equal(modified) || f.Hash != tag {
		res.Body.Close()
		return nil, &FileError{f.Name, ErrChanged}
	}
	return res.Body, nil
}

// Open returns the decoded bytes of a file, from its beginning. The caller closes it.
func (in *Input) Open(ctx context.Context, f *File) (io.ReadCloser, error) {
	var stored io.ReadCloser
	switch {
	case f.Name == Stdin:
		stored = io.NopCloser(in.stdin)
	case isURL(f.Name):
		body, err := get(ctx, f)
		if err != nil {
			return nil, err
		}
		stored = body
	default:
		file, err := os.Open(f.Name)
		if err != nil {
			return nil, &FileError{f.Name, err}
		}
		stored = file
	}
	r, err := decode(stored, f)
	if err != nil {
		stored.Close()
		return nil, &FileError{f.Name, err}
	}
	return r, nil
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

// Head returns the first decoded bytes of a file, at most most of them, and whether that
// is all of it. Stdin can still be read from its beginning afterwards.
func (in *Input) Head(ctx context.Context, f *File, most int) (head []byte, whole bool, err error) {
	var r io.ReadCloser
	ended := false // stdin, within what can be looked at of it
	if f.Name == Stdin {
		in.stdin = bufio.NewReaderSize(in.stdin, most)
		stored, err := in.stdin.Peek(most)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return nil, false, &FileError{Stdin, err}
		}
		if r, err = decode(io.NopCloser(bytes.NewReader(stored)), f); err != nil {
			return nil, false, &FileError{Stdin, err}
		}
	} else if r, err = in.Open(ctx, f); err != nil {
		return nil, false, err
	}
	defer r.Close()
	head, err = io.ReadAll(io.LimitReader(r, int64(most)))
	switch {
	case err == nil:
		// What was looked at of stdin may be cut anywhere.
		return head, len(head) < most && (f.Name != Stdin || ended), nil
	case len(head) > 0:
		return head, false, nil // a fault behind is told when it is met
	}
	return nil, false, &FileError{f.Name, err}
}

// Same returns ErrChanged, with what is different, where the file is not the one that
// was inspected. A file whose time alone is another is taken for changed unless
// anyTime: its samples are equal, which says little of what lies between them.
func (in *Input) Same(ctx context.Context, f *File, anyTime bool) error {
	switch {
	case f.Name == Stdin:
		return &FileError{Stdin, ErrOnce}
	case f.Once:
		return &FileError{f.Name, fmt.Errorf("%w: the query of its address is not kept", ErrOnce)}
	}
	now := File{Name: f.Name, Bytes: -1}
	if _, err := in.peek(ctx, &now); err != nil {
		return err
	}
	switch {
	case now.Bytes != f.Bytes:
		return &FileError{f.Name, fmt.Errorf("%w: it has %d bytes, and had %d", ErrChanged, now.Bytes, f.Bytes)}
	case now.Hash != f.Hash:
		return &FileError{f.Name, fmt.Errorf("%w: its content is another", ErrChanged)}
	case !now.Modified.Equal(f.Modified) && !anyTime:
		return &FileError{f.Name, fmt.Errorf("%w: it was written at %s; --any-time goes on if only its time is another", ErrChanged, now.Modified.Format(time.DateTime))}
	}
	return nil
}

// Touch takes the present time of a plain file for its own.
func (in *Input) Touch(f *File) error {
	if f.Name == Stdin || isURL(f.Name) {
		return nil
	}
	info, err := os.Stat(f.Name)
	if err != nil {
		return &FileError{f.Name, err}
	}
	f.Modified = info.ModTime().UTC()
	return nil
}
