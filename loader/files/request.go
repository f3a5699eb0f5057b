package files

import (
	"fmt"

	"bulkload/loader/commit"
)

// A Request names the files, their format and their target. Zero values are guessed from the
// files and the table.
type Request struct {
	Names []string // as Expand returns them
	Input *Input   // opens them
	// CopyText reads the text format of PostgreSQL's COPY: fields end with a tab unless Delimiter
	// names another character, and an empty Null means \N. Nothing is guessed about it but the
	// header.
	CopyText bool
	// Delimiter, Quote and Escape are as in csv.Dialect; a zero Delimiter is guessed. NoQuote
	// turns quoting off.
	Delimiter, Quote, Escape byte
	NoQuote                  bool
	Null                     string
	Encoding                 string // zero is UTF-8, or the encoding of a byte order mark
	Header                   Header
	Skip                     int // lines in front of the header
	// Columns names the fields of a record, in order; nil takes the header's names, or the
	// table's columns in order.
	Columns []string
	// Map gives the target column by the field's name; an empty column drops the field.
	Map map[string]string
	// Set are columns computed in SQL from the fields.
	Set      []commit.Assignment
	Conflict commit.Conflict
	// MaxErrors bounds the rejects. Zero tolerates none.
	MaxErrors Tolerance
	// MaxRecordBytes bounds one record; zero is DefaultMaxRecordBytes.
	MaxRecordBytes int
	// ShortRows reads a missing end of a record as NULL fields.
	ShortRows bool
	// CreateTable creates a missing table with types that return each value of the files
	// unchanged. Key is its primary key. Types overrides the types of single columns; Text
	// makes all others TEXT.
	CreateTable bool
	Key         []string
	Types       map[string]string
	Text        bool
}

// A Header says whether files begin with the names of their fields.
type Header string

// The headers; an empty one is HeaderAuto.
const (
	HeaderAuto Header = "auto"
	HeaderYes  Header = "yes"
	HeaderNo   Header = "no"
)

// A Tolerance bounds the rejects of a load: a number of records, or a share of them if Percent is
// positive. The zero value tolerates none.
type Tolerance struct {
	Records int64   `json:"records,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

func (t Tolerance) none() bool { return t.Records == 0 && t.Percent == 0 }

// String returns N or N%.
func (t Tolerance) String() string {
	if t.Percent > 0 {
		return fmt.Sprintf("%g%%", t.Percent)
	}
	return fmt.Sprint(t.Records)
}
