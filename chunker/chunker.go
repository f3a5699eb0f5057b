// Package chunker cuts a load into spans that one transaction may hold.
//
// It knows sizes and limits only: how many bytes of key a row adds to a
// transaction, how many key-value pairs, how many bytes of message, and which of
// the server's limits that meets first. It talks to no database, starts no
// goroutine and imports nothing but the standard library.
package chunker

import "fmt"

// A Span says where consecutive rows lie: rows First up to First+Count of a
// generated source, or bytes First up to First+Count of a file. A span is a
// value; copying it copies everything.
type Span struct {
	First int64 // first row number, or first byte offset
	Count int64 // rows, or bytes
	Rows  int64 // rows in the span; equals Count where Count counts rows
	Line  int64 // 1-based line on which the span starts; 0 for generated rows
}

// RowSpan returns the span of count generated rows from row first on.
func RowSpan(first, count int64) Span {
	return Span{First: first, Count: count, Rows: count}
}

// End returns the position just behind the span.
func (s Span) End() int64 { return s.First + s.Count }

// Range returns the half-open range of positions that the span covers.
func (s Span) Range() Range { return Range{First: s.First, End: s.End()} }

// String returns the span as [first,end).
func (s Span) String() string { return fmt.Sprintf("[%d,%d)", s.First, s.End()) }
