package anytable

import (
	"fmt"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A source computes the rows of a generator. It is safe for concurrent use.
type source struct {
	table   string
	columns []rows.Column
	values  []*column
}

// newSource returns the rows of a generator for a table.
func newSource(g *generator, t *server.Table, p server.Product) (*source, error) {
	s := &source{table: t.Display()}
	var err error
	if s.values, err = g.compile(); err != nil {
		return nil, err
	}
	for _, r := range g.Rules {
		if r.SQL != "" {
			continue
		}
		c := t.Column(r.Column)
		if len(t.Columns) == 0 { // an earlier run's job has it offline
			c = &server.Column{Name: r.Column}
		}
		if c == nil {
			return nil, dataset.Refuse("table %s no longer has column %s", t.Display(), r.Column)
		}
		s.columns = append(s.columns, dataset.TextColumn(c, p))
	}
	return s, nil
}

// Columns implements loader.Source.
func (s *source) Columns() []rows.Column { return s.columns }

// Fill implements loader.Source.
func (s *source) Fill(c *rows.Chunk, span chunker.Span) error {
	n := int(span.Count)
	c.Reset(span, n)
	for i, v := range s.values {
		c.Col(i).AppendRows(v, span.First, n)
	}
	o, ok := c.Origin.(*origin)
	if !ok {
		o = &origin{source: s}
		c.Origin = o
	}
	o.first = span.First
	return nil
}

// An origin names the rows of a chunk in messages: orders:17 is row 17 of the load, counted from
// 1.
type origin struct {
	*source
	first int64
}

// Record implements rows.Origin: the values, with commas between them.
func (o *origin) Record(i int) []byte {
	var text []byte
	for k, v := range o.values {
		if k > 0 {
			text = append(text, ',')
		}
		before := len(text)
		value, null := v.AppendValue(text, o.first+int64(i))
		if text = value; null {
			text = append(text[:before:before], "NULL"...)
		}
	}
	return append(text, '\n')
}

// Place implements rows.Origin.
func (o *origin) Place(i int) rows.Place {
	row := o.first + int64(i)
	return rows.Place{File: o.table, Line: row + 1, Position: row}
}

// first returns the values of the first rows, for messages and plans.
func (s *source) first(n int64) (*rows.Chunk, error) {
	c := rows.NewChunk(s.columns)
	if err := s.Fill(c, chunker.RowSpan(0, n)); err != nil {
		return nil, fmt.Errorf("make the first rows: %w", err)
	}
	return c, nil
}
