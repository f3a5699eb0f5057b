// Package rows holds the rows of one chunk in columns. The memory is reused for the next chunk.
// The package neither generates rows nor sends them.
package rows

import (
	"fmt"

	"bulkload/chunker"
)

// A Kind is the representation of a column's values, in memory and in messages.
type Kind int

// The kinds of column.
const (
	Int   Kind = iota // 64-bit integer, INT8 in the database
	Float             // 64-bit float, FLOAT8 in the database
	Text              // text in the database's own input form, or NULL
)

// A Column describes one column of a chunk.
type Column struct {
	Name string // as in the table, not quoted
	Kind Kind
	// Type, of a Text column, is the SQL type to which the text is cast; empty means no cast.
	Type string
	// Stored, of a Text column, is an SQL expression for the value that the table stores, with
	// %s in place of the text. Empty: the cast gives that value.
	Stored string
	// Collation, of a Text column, is the collation of the table's column in SQL syntax; empty
	// means the database's own, or none.
	Collation string
}

// Values are the values of one column. Only the slice of the column's kind is used. A Values
// belongs to its chunk and is valid until the chunk's next Reset.
type Values struct {
	Column
	Ints   []int64
	Floats []float64

	text  []byte // all texts, concatenated
	ends  []int  // text i ends at ends[i]
	nulls []bool // nil, or one per value of a Text column
	null  bool   // whether any value is NULL
}

// AppendText appends a value to a Text column; the bytes are copied.
func (v *Values) AppendText(b []byte) {
	v.text = append(v.text, b...)
	v.ends = append(v.ends, len(v.text))
	v.nulls = append(v.nulls, false)
}

// An Appender appends the text of a value to a buffer.
type Appender interface {
	// AppendValue appends the text of the value of a row, or reports that it is NULL.
	AppendValue(buf []byte, row int64) (text []byte, null bool)
}

// AppendRows appends the values of n rows, from row first on, to a Text column.
func (v *Values) AppendRows(a Appender, first int64, n int) {
	for row := first; row < first+int64(n); row++ {
		text, null := a.AppendValue(v.text, row)
		if null {
			v.AppendNull()
			continue
		}
		v.text = text
		v.ends = append(v.ends, len(text))
		v.nulls = append(v.nulls, false)
	}
}

// AppendNull appends a NULL to a Text column.
func (v *Values) AppendNull() {
	v.ends = append(v.ends, len(v.text))
	v.nulls = append(v.nulls, true)
	v.null = true
}

// Text returns value i of a Text column, and whether it is not NULL. The bytes
// belong to the chunk.
func (v *Values) Text(i int) (b []byte, ok bool) {
	from := 0
	if i > 0 {
		from = v.ends[i-1]
	}
	return v.text[from:v.ends[i]], !v.nulls[i]
}

// HasNull reports whether any value is NULL.
func (v *Values) HasNull() bool { return v.null }

// Len returns the number of values.
func (v *Values) Len() int {
	switch v.Kind {
	case Int:
		return len(v.Ints)
	case Float:
		return len(v.Floats)
	default:
		return len(v.ends)
	}
}

// TextBytes returns the total number of bytes of all texts.
func (v *Values) TextBytes() int { return len(v.text) }

func (v *Values) reset(n int) {
	switch v.Kind {
	case Int:
		v.Ints = resize(v.Ints, n)
	case Float:
		v.Floats = resize(v.Floats, n)
	default:
		v.text, v.ends, v.nulls, v.null = v.text[:0], v.ends[:0], v.nulls[:0], false
	}
}

// resize returns s with length n, and reuses its memory if it is large enough.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// An Origin gives access to the records from which the rows of a chunk were parsed.
type Origin interface {
	// Record returns the bytes of row i's record, including its line end.
	Record(i int) []byte
	// Place returns the place of row i's record.
	Place(i int) Place
}

// A Hasher is an Origin that identifies the bytes of its records by a hash.
type Hasher interface {
	// Hash returns a hash by which the same bytes can be found in another input; empty means
	// that there is none.
	Hash() string
}

// A Place is the start of a record.
type Place struct {
	File     string
	Line     int64 // from 1
	Byte     int64 // offset in the file, decompressed and decoded
	Position int64 // in the load
}

// Where returns p. Errors that embed a Place thereby show that they concern one record.
func (p Place) Where() Place { return p }

// String returns file:line.
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// A Reject is a record that did not become a row of the table, with the reason.
type Reject struct {
	Place
	Record []byte // as read; not shared with the chunk
	Column string // the column at fault; empty if unknown
	Code   string // SQLSTATE
	Reason string
}

// A Chunk holds the rows of one span. Its memory is reused: Reset starts the next span in the
// same slices. Only one goroutine at a time may use a chunk.
type Chunk struct {
	Span chunker.Span
	// RowNumbers holds the number of each row, if the source reordered the rows. If it is
	// empty, row i of the chunk is row Span.First+i.
	RowNumbers []int64
	// Origin, when not nil, tells where the rows were read. It belongs to the source and is
	// valid until the chunk is filled again.
	Origin Origin
	// Rejects are the rejected records of the span, if the source tolerates rejects.
	Rejects []Reject
	// Sent says that an attempt with unknown outcome may have sent rows of the span, in this
	// run or in an earlier one. Fill does not change it.
	Sent bool

	cols  []Values
	n     int
	raw   []byte
	parse func() error
}

// NewChunk returns an empty chunk with the given columns.
func NewChunk(columns []Column) *Chunk {
	c := &Chunk{cols: make([]Values, len(columns))}
	for i, col := range columns {
		c.cols[i].Column = col
	}
	return c
}

// Reset empties the chunk for span. Int and Float columns get n values, to be set by index.
// Text columns get none; append them.
func (c *Chunk) Reset(span chunker.Span, n int) {
	c.Span, c.n = span, n
	c.RowNumbers = c.RowNumbers[:0]
	c.Rejects = c.Rejects[:0]
	c.raw, c.parse = nil, nil
	for i := range c.cols {
		c.cols[i].reset(n)
	}
}

// SetRaw gives the chunk n rows as the source's own text. The columns stay empty until parse
// fills them. If the text can be sent unchanged, neither parsing nor encoding is necessary.
func (c *Chunk) SetRaw(raw []byte, n int, parse func() error) {
	c.raw, c.n, c.parse = raw, n, parse
}

// Raw returns the text passed to SetRaw, or nil if the columns hold the rows.
func (c *Chunk) Raw() []byte { return c.raw }

// Parse fills the columns from the raw text unless that has been done. The error is the
// source's, like that of its Fill.
func (c *Chunk) Parse() error {
	if c.parse == nil {
		return nil
	}
	parse := c.parse
	c.raw, c.parse = nil, nil
	return parse()
}

// SetLen changes the number of rows. A source calls it if it learns the number while it fills
// Text columns.
func (c *Chunk) SetLen(n int) { c.n = n }

// Len returns the number of rows.
func (c *Chunk) Len() int { return c.n }

// Width returns the number of columns.
func (c *Chunk) Width() int { return len(c.cols) }

// Col returns column i, counted from 0.
func (c *Chunk) Col(i int) *Values { return &c.cols[i] }

// Row returns the number of the chunk's row i in the load.
func (c *Chunk) Row(i int) int64 {
	if len(c.RowNumbers) > 0 {
		return c.RowNumbers[i]
	}
	return c.Span.First + int64(i)
}

// CopyRows replaces the contents of part by rows lo up to hi of c. part has the same columns.
func (c *Chunk) CopyRows(part *Chunk, lo, hi int) {
	part.Reset(c.Span, hi-lo)
	for i := lo; i < hi; i++ {
		c.copyRow(part, i-lo, i)
	}
}

// CopyList replaces the contents of part by the rows of c in list, in list's order. part has
// the same columns.
func (c *Chunk) CopyList(part *Chunk, list []int) {
	part.Reset(c.Span, len(list))
	for at, i := range list {
		c.copyRow(part, at, i)
	}
}

// copyRow copies row i of c to row at of part. The rows before at must be copied first.
func (c *Chunk) copyRow(part *Chunk, at, i int) {
	for k := range c.cols {
		from, to := &c.cols[k], &part.cols[k]
		switch from.Kind {
		case Int:
			to.Ints[at] = from.Ints[i]
		case Float:
			to.Floats[at] = from.Floats[i]
		default:
			if b, ok := from.Text(i); ok {
				to.AppendText(b)
			} else {
				to.AppendNull()
			}
		}
	}
}
