// Package rows holds the rows of one chunk, column by column, in memory that is
// used again for the next chunk. It neither generates rows nor sends them.
package rows

import (
	"fmt"

	"bulkload/chunker"
)

// A Kind is how a column's values are kept and sent.
type Kind int

// The kinds of column.
const (
	Int   Kind = iota // 64-bit integer, INT8 in the database
	Float             // 64-bit float, FLOAT8 in the database
	Text              // text in the database's own input form, or NULL
)

// A Column names one column of a chunk.
type Column struct {
	Name string // as in the table, not quoted
	Kind Kind
	// Type, of a Text column, is what SQL casts the text to; empty is none.
	Type string
	// Stored, of a Text column, is the SQL expression of the value that the table's
	// column keeps of the text, which %s stands for; empty where the cast gives it.
	Stored string
	// Collation, of a Text column, is by what the table's column compares, as SQL
	// writes it; empty is the database's own, or none.
	Collation string
}

// Values are the values of one column. Only the slice of the column's kind is
// used. A Values belongs to its chunk and is good until the chunk's next Reset.
type Values struct {
	Column
	Ints   []int64
	Floats []float64

	text  []byte // the texts, one behind the other
	ends  []int  // text i ends at ends[i]
	nulls []bool // nil, or one per value of a Text column
	null  bool   // whether any value is NULL
}

// AppendText adds a value to a Text column; the bytes are copied.
func (v *Values) AppendText(b []byte) {
	v.text = append(v.text, b...)
	v.ends = append(v.ends, len(v.text))
	v.nulls = append(v.nulls, false)
}

// AppendNull adds a NULL to a Text column.
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

// TextBytes returns the number of bytes of all texts together.
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

// resize returns s with length n, keeping its memory where that is enough.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// An Origin knows the records that the rows of a chunk were parsed from.
type Origin interface {
	// Record returns the bytes of row i's record, its end of line included.
	Record(i int) []byte
	// Place says where row i's record is.
	Place(i int) Place
}

// A Hasher is an Origin that tells the bytes of its records by a hash.
type Hasher interface {
	// Hash returns text that finds the same bytes again in another input; empty: it cannot.
	Hash() string
}

// A Place is where a record begins.
type Place struct {
	File     string
	Line     int64 // from 1
	Byte     int64 // offset in the file, decompressed and decoded
	Position int64 // in the load
}

// Where returns p. An error that a Place is part of so tells that it is about one
// record.
func (p Place) Where() Place { return p }

// String returns file:line.
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// A Reject is a record that became no row of the table, and why.
type Reject struct {
	Place
	Record []byte // as it was read; not shared with the chunk
	Column string // where one is to blame
	Code   string // SQLSTATE
	Reason string
}

// A Chunk holds the rows of one span. Its memory is reused: Reset starts the next
// span in the same slices. A chunk is used by one goroutine at a time.
type Chunk struct {
	Span chunker.Span
	// RowNumbers holds, where the source put the rows in another order than
	// that of their numbers, the number of each row; else it is nil and row i
	// of the chunk is row Span.First+i.
	RowNumbers []int64
	// Origin, where it is not nil, tells where the rows were read. It belongs to
	// the source and is good until the chunk is filled again.
	Origin Origin
	// Rejects are the records of the span that hold no row, where the source
	// tolerates them.
	Rejects []Reject
	// Sent says that an attempt whose outcome is not known, of this run or of one that has
	// ended, may have sent rows of the span. Fill leaves it as it is.
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

// Reset empties the chunk for span. Int and Float columns get n values, to be set
// by index; Text columns get none, to be appended.
func (c *Chunk) Reset(span chunker.Span, n int) {
	c.Span, c.n = span, n
	c.RowNumbers = c.RowNumbers[:0]
	c.Rejects = c.Rejects[:0]
	c.raw, c.parse = nil, nil
	for i := range c.cols {
		c.cols[i].reset(n)
	}
}

// SetRaw gives the chunk n rows as the source has them, as text, with the columns left
// empty until parse fills them. A carrier that takes the text as it is spares both ends
// of it.
func (c *Chunk) SetRaw(raw []byte, n int, parse func() error) {
	c.raw, c.n, c.parse = raw, n, parse
}

// Raw returns the text that SetRaw gave, or nil where the columns hold the rows.
func (c *Chunk) Raw() []byte { return c.raw }

// Parse fills the columns from the raw text, where that has not been done. The error is
// the source's, as of its Fill.
func (c *Chunk) Parse() error {
	if c.parse == nil {
		return nil
	}
	parse := c.parse
	c.raw, c.parse = nil, nil
	return parse()
}

// SetLen changes the number of rows, for a source that learns it while it fills
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

// CopyRows puts the rows from lo up to hi of c into part, which has the same columns.
func (c *Chunk) CopyRows(part *Chunk, lo, hi int) {
	part.Reset(c.Span, hi-lo)
	for i := lo; i < hi; i++ {
		c.copyRow(part, i-lo, i)
	}
}

// CopyList puts the rows that list names into part, in its order.
func (c *Chunk) CopyList(part *Chunk, list []int) {
	part.Reset(c.Span, len(list))
	for at, i := range list {
		c.copyRow(part, at, i)
	}
}

// copyRow makes row i of c row at of part, which has those in front of it.
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
