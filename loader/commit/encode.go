package commit

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"bulkload/loader/rows"
)

// Prepare lets a connection send a chunk's column as one array parameter without copying its
// values. Every connection of a Committer's pool must be prepared; server.Sessions has a field
// for it.
func Prepare(conn *pgx.Conn) {
	m := conn.TypeMap()
	for _, a := range []struct {
		name string
		oid  uint32
	}{
		{"_int8", pgtype.Int8ArrayOID},
		{"_float8", pgtype.Float8ArrayOID},
		{"_text", pgtype.TextArrayOID},
		{"_bool", pgtype.BoolArrayOID},
		{"_uuid", pgtype.UUIDArrayOID},
		{"_date", pgtype.DateArrayOID},
		{"_timestamp", pgtype.TimestampArrayOID},
		{"_timestamptz", pgtype.TimestamptzArrayOID},
	} {
		t, ok := m.TypeForOID(a.oid)
		if !ok {
			continue
		}
		m.RegisterType(&pgtype.Type{Name: a.name, OID: a.oid, Codec: columnCodec{t.Codec}})
	}
}

// columnCodec is the codec of an array type; it also encodes a chunk's column.
type columnCodec struct{ pgtype.Codec }

func (c columnCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case *rows.Values:
			return columnPlan{}
		case binaryArray:
			return binaryPlan{}
		}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// columnPlan writes a column in the binary form of a one-dimensional array:
// dimensions, has-null flag, element type, length, lower bound, then each element
// with its length (PostgreSQL, src/backend/utils/adt/arrayfuncs.c, array_send).
type columnPlan struct{}

func (columnPlan) Encode(value any, buf []byte) ([]byte, error) {
	v := value.(*rows.Values)
	be := binary.BigEndian
	var null uint32
	if v.HasNull() {
		null = 1
	}
	buf = be.AppendUint32(buf, 1)
	buf = be.AppendUint32(buf, null)
	buf = be.AppendUint32(buf, elementOID(v.Kind))
	buf = be.AppendUint32(buf, uint32(v.Len()))
	buf = be.AppendUint32(buf, 1)
	if v.Kind != rows.Text {
		at := len(buf)
		buf = slices.Grow(buf, fixedBytes*v.Len())[:at+fixedBytes*v.Len()]
		putFixed(buf[at:], v, fixedBytes)
		return buf, nil
	}
	// Grow once: while a slice of many MiB grows, two copies exist.
	buf = slices.Grow(buf, 4*v.Len()+v.TextBytes())
	for i := range v.Len() {
		buf = appendField(buf, v, i)
	}
	return buf, nil
}

// fixedBytes is the size of a number's field: a length of 4 bytes and a value of 8 bytes.
const fixedBytes = 4 + 8

// putFixed writes a column of numbers, one field at every stride-th byte of buf. Column by
// column is twice as fast as row by row.
func putFixed(buf []byte, v *rows.Values, stride int) {
	be := binary.BigEndian
	if v.Kind == rows.Int {
		for i, x := range v.Ints {
			field := buf[i*stride:][:fixedBytes]
			be.PutUint32(field, 8)
			be.PutUint64(field[4:], uint64(x))
		}
		return
	}
	for i, x := range v.Floats {
		field := buf[i*stride:][:fixedBytes]
		be.PutUint32(field, 8)
		be.PutUint64(field[4:], math.Float64bits(x))
	}
}

func elementOID(k rows.Kind) uint32 {
	return [...]uint32{pgtype.Int8OID, pgtype.Float8OID, pgtype.TextOID}[k]
}

// appendField writes value i after its length, as in arrays and binary COPY.
func appendField(buf []byte, v *rows.Values, i int) []byte {
	be := binary.BigEndian
	switch v.Kind {
	case rows.Int:
		buf = be.AppendUint32(buf, 8)
		return be.AppendUint64(buf, uint64(v.Ints[i]))
	case rows.Float:
		buf = be.AppendUint32(buf, 8)
		return be.AppendUint64(buf, math.Float64bits(v.Floats[i]))
	}
	b, ok := v.Text(i)
	if !ok {
		return be.AppendUint32(buf, math.MaxUint32)
	}
	return append(be.AppendUint32(buf, uint32(len(b))), b...)
}

// appendBinary writes the rows of c as a complete binary COPY stream (PostgreSQL documentation,
// COPY, "Binary Format"). The table's columns must have exactly the types of the chunk's kinds.
func appendBinary(buf []byte, c *rows.Chunk) []byte {
	be := binary.BigEndian
	buf = append(buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	width := c.Width()
	if onlyNumbers(c) {
		at, stride := len(buf), 2+fixedBytes*width
		buf = slices.Grow(buf, stride*c.Len()+2)[:at+stride*c.Len()]
		for i := range c.Len() {
			be.PutUint16(buf[at+i*stride:], uint16(width))
		}
		for k := range width {
			putFixed(buf[at+2+fixedBytes*k:], c.Col(k), stride)
		}
		return be.AppendUint16(buf, 0xffff)
	}
	for i := range c.Len() {
		buf = be.AppendUint16(buf, uint16(width))
		for k := range width {
			buf = appendField(buf, c.Col(k), i)
		}
	}
	return be.AppendUint16(buf, 0xffff)
}

func onlyNumbers(c *rows.Chunk) bool {
	for k := range c.Width() {
		if c.Col(k).Kind == rows.Text {
			return false
		}
	}
	return true
}

// arrayType returns the SQL array type of a column parameter.
func arrayType(k rows.Kind) string {
	return [...]string{"INT8[]", "FLOAT8[]", "TEXT[]"}[k]
}

// list joins quoted names with commas.
func list(columns []rows.Column) string {
	s := ""
	for i, c := range columns {
		if i > 0 {
			s += ", "
		}
		s += pgx.Identifier{c.Name}.Sanitize()
	}
	return s
}

// unnest returns the FROM item that turns one array parameter per column into rows.
func (o *Options) unnest() string {
	s := "unnest("
	for i, c := range o.Columns {
		if i > 0 {
			s += ", "
		}
		array := arrayType(c.Kind)
		if o.sends != nil && o.sends[i] != nil {
			array = o.sends[i].array
		}
		s += fmt.Sprintf("$%d::%s", 1+i, array)
	}
	return s + ")"
}
