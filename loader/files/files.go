// Package files reads the records of CSV files as the rows of a load: it opens local files,
// streams and URLs, unpacks and decodes them, cuts them into spans of whole records, and parses
// these into chunks. It writes to no database.
//
// Begin with New and Dataset, which inspects the files and maps fields to columns; CSV is the
// source of the rows.
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

// StreamSpace is the number of positions of a file whose length is unknown until it has been
// read: 16 TiB. Its last span covers the unused rest of them.
const StreamSpace = int64(1) << 44

// A File is one input of a load of CSV, as the load's record keeps it. Its positions begin at
// First.
type File struct {
	// Name is an absolute path, a URL without its query, or Stdin. Queries may hold credentials
	// and are not stored.
	Name  string `json:"name"`
	query string
	// Once says that only this process can open it.
	Once  bool  `json:"once,omitempty"`
	First int64 `json:"first"`
	// Size is the number of its positions: its bytes, or StreamSpace.
	Size int64 `json:"size"`
	// Data is the number of decoded bytes in front of the first record: a byte order mark,
	// skipped lines, the header.
	Data int64 `json:"data"`
	// Stream says that it can only be read from its beginning: it is compressed, not in UTF-8,
	// or not on a disk.
	Stream bool `json:"stream,omitempty"`
	// Order gives, for each field of the first file's header, its place in the records of a
	// file with another order; nil: the same order.
	Order    []int  `json:"order,omitempty"`
	Encoding string `json:"encoding,omitempty"` // empty is UTF-8
	Form     string `json:"form,omitempty"`     // gzip, zstd, bzip2, xz; empty is plain
	// The identity of its content: resume refuses a file with another one.
	Bytes    int64     `json:"bytes"` // stored size; -1 is unknown
	Modified time.Time `json:"modified,omitzero"`
	Hash     string    `json:"hash,omitempty"` // of samples of the stored bytes, or a server's ETag
}

// ErrChanged: a file is not the one with which the load began.
var ErrChanged = dataset.ErrChanged

// ErrOnce: only the process that began the load could read an input.
var ErrOnce = dataset.ErrOnce

// A FileError reports an input that cannot be read.
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
