// Package rows holds the rows of one chunk, column by column, in memory that is
// used again for the next chunk. It neither generates rows nor sends them.
package rows

import "bulkload/chunker"

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

// A Chunk holds the rows of one span. Its memory is reused: Reset starts the next
// span in the same slices. A chunk is used by one goroutine at a time.
type Chunk struct {
	Span chunker.Span
	// RowNumbers holds, where the source put the rows in another order than
	// that of their numbers, the number of each row; else it is nil and row i
	// of the chunk is row Span.First+i.
	RowNumbers []int64

	cols []Values
	n    int
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
	for i := range c.cols {
		c.cols[i].reset(n)
	}
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
