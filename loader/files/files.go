// Package files reads the records of CSV files as the rows of a load: it opens local files,
// streams and URLs, unpacks and decodes them, cuts them into spans of whole records, and
// parses these into chunks. It writes to no database.
package files

import (
	"path/filepath"
	"strings"
	"time"

	"bulkload/loader/dataset"
	"bulkload/loader/failure"
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
	Stream bool `json:"stream,omitempty"`
	// Order is, of a file with a header of its own, the place in its records of each field of
	// the first file's; nil: the same.
	Order    []int  `json:"order,omitempty"`
	Encoding string `json:"encoding,omitempty"` // empty is UTF-8
	Form     string `json:"form,omitempty"`     // gzip, zstd, bzip2, xz; empty is plain
	// What is known of its content, to refuse another one at resume.
	Bytes    int64     `json:"bytes"` // as it is stored; -1 is unknown
	Modified time.Time `json:"modified,omitzero"`
	Hash     string    `json:"hash,omitempty"` // of samples of the stored bytes, or a server's ETag
}

// ErrChanged: a file is not the one that the load was begun with.
var ErrChanged = dataset.ErrChanged

// ErrOnce: an input can be read in the process only that began with it.
var ErrOnce = dataset.ErrOnce

// A FileError says that an input cannot be read.
type FileError = failure.FileError

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
