// Package chunker cuts a load into spans small enough for one transaction.
//
// It knows only sizes and limits: the key bytes, key-value pairs and message bytes that a row
// adds to a transaction, and the server limit that is reached first. It accesses no database,
// starts no goroutine and imports only the standard library.
//
// Begin with MakePlan, which chooses the rows of a chunk from Cost and Limits.
package chunker

import "fmt"

// A Span is the position of consecutive rows: rows First up to First+Count of a generated
// source, or bytes First up to First+Count of a file. A span is a plain value without shared
// memory.
type Span struct {
	First int64 // first row number, or first byte offset
	Count int64 // rows, or bytes
	Rows  int64 // rows in the span; equals Count where Count counts rows
	Line  int64 // 1-based line on which the span starts; 0 for generated rows
}

// RowSpan returns the span of count generated rows, starting at row first.
func RowSpan(first, count int64) Span {
	return Span{First: first, Count: count, Rows: count}
}

// End returns the position just behind the span.
func (s Span) End() int64 { return s.First + s.Count }

// Range returns the half-open range of positions that the span covers.
func (s Span) Range() Range { return Range{First: s.First, End: s.End()} }

// String returns the span as [first,end).
func (s Span) String() string { return fmt.Sprintf("[%d,%d)", s.First, s.End()) }
