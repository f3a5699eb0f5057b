package load

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// CSV is the kind of rows that are read from files.
const CSV What = "csv"

// A Files request says what files hold and where it goes; see Request.Files. Its zero
// values are guessed from the files and the table.
type Files struct {
	Names []string     // as files.Expand gives them
	Input *files.Input // opens them
	// Delimiter, Quote and Escape are as in csv.Dialect; a zero Delimiter is
	// guessed. NoQuote says that nothing is quoted.
	Delimiter, Quote, Escape byte
	NoQuote                  bool
	Null                     string
	Encoding                 string // zero is UTF-8, or what a byte order mark says
	Header                   Header
	Skip                     int // lines in front of the header
	// Columns names the fields of a record, in order; nil takes the header, or
	// the table's columns in order.
	Columns []string
	// Map gives a field's name the column it goes to; an empty one drops it.
	Map map[string]string
	// Set are columns that are computed in SQL from the fields.
	Set      []commit.Assignment
	Conflict commit.Conflict
	// MaxErrors bounds the records that become no row. Zero tolerates none.
	MaxErrors Tolerance
	// MaxRecordBytes bounds one record; zero is files.DefaultMaxRecordBytes.
	MaxRecordBytes int
	// CreateTable makes a missing table, of types that fit the first records.
	// Key is then its primary key.
	CreateTable bool
	Key         []string
}

// A Header says whether files begin with the names of their fields.
type Header string

// The headers; an empty one is HeaderAuto.
const (
	HeaderAuto Header = "auto"
	HeaderYes  Header = "yes"
	HeaderNo   Header = "no"
)

// A Tolerance bounds the rejects of a load: a number of records, or a share of them.
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

// csvSpec is what the registry keeps of a load of files.
type csvSpec struct {
	Files     []files.File        `json:"files"`
	Dialect   csv.Dialect         `json:"dialect"`
	Width     int                 `json:"width"` // fields of a record
	Fields    []csvField          `json:"fields"`
	Set       []commit.Assignment `json:"set,omitempty"`
	Conflict  commit.Conflict     `json:"conflict,omitempty"`
	MaxErrors Tolerance           `json:"max_errors,omitzero"`
	MaxRecord int                 `json:"max_record"`
	Header    string              `json:"header,omitempty"`   // its text, for files of rejects
	RowBytes  int64               `json:"row_bytes"`          // mean of the first records, in the file
	Longest   int64               `json:"longest,omitempty"`  // bytes of the longest of them
	Elements  int64               `json:"elements,omitempty"` // most commas in a field of theirs, and one
	// Began is when the load began, as commit.Stamp gives it.
	Began  string   `json:"began,omitempty"`
	header Header   // that files have; HeaderAuto is still to be seen by the table
	names  []string // of the fields
	sample [][]csv.Field
}

// A csvField is a field that is used.
type csvField struct {
	Field  int    `json:"field"`
	Name   string `json:"name"`             // of the column, or of a field that Set uses
	Column bool   `json:"column,omitempty"` // goes into the column of its name
}

// prepareCSV finds or makes the table and decides which field goes to which column.
func (l *Load) prepareCSV(ctx context.Context, req *Request, name pgx.Identifier) error {
	f := req.Files
	reading, done := loader.WithStop(ctx, req.Stop)
	defer done()
	c, err := l.inspect(reading, f)
	if err != nil {
		return beforeRows(err)
	}
	l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, name)
	if f.CreateTable && isNoTable(err) {
		if err := l.createFor(ctx, c, f, name); err != nil {
			return err
		}
		l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, name)
	}
	if err != nil {
		if isNoTable(err) {
			return &TableError{fmt.Sprintf("%v; --create-table makes it, of types that fit the file", err)}
		}
		return asTableError(err)
	}
	if err := c.mapFields(reading, l, f); err != nil {
		return beforeRows(err)
	}
	l.spec.CSV = c
	return l.useCSV(c)
}

// useCSV makes the source of a load of files, new or resumed.
func (l *Load) useCSV(c *csvSpec) error {
	l.csv = &files.CSV{
		Files: c.Files, Dialect: c.Dialect, Width: c.Width, MaxRecordBytes: c.MaxRecord, Tolerate: !c.MaxErrors.none(),
		Input: l.input,
	}
	for _, field := range c.Fields {
		col := rows.Column{Name: field.Name, Kind: rows.Text, Type: "TEXT"}
		if field.Column {
			has := l.Table.Column(field.Name)
			if has == nil {
				return &TableError{fmt.Sprintf("table %s has no column %s any more", l.Table.Display(), field.Name)}
			}
			col.Type, col.Stored = castType(has, l.srv.Product), storedAs(has, l.srv.Product)
			col.Collation = has.Collation
		}
		l.csv.Cols = append(l.csv.Cols, col)
		l.csv.Fields = append(l.csv.Fields, field.Field)
	}
	l.Positions = l.csv.Positions()
	l.Rows = c.estimate()
	return nil
}
