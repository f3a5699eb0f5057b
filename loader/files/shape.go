package files

import (
	"bytes"
	"fmt"

	"bulkload/chunker/csv"
)

// shaped returns the fields of a record as the flags shape them: without the empty field behind
// a last delimiter, and with NULL for missing fields.
func (s *CSV) shaped(fields []csv.Field) []csv.Field {
	if s.Tail && len(fields) == s.Width+1 && fields[s.Width].Null {
		fields = fields[:s.Width]
	}
	for s.ShortRows && len(fields) < s.Width {
		fields = append(fields, csv.Field{Null: true})
	}
	return fields
}

// widthError returns the error of a record with another number of fields than the others.
func (s *CSV) widthError(got []csv.Field) error {
	count := fmt.Sprintf("%d fields", len(got))
	if len(got) == 1 {
		count = "1 field"
	}
	switch {
	case len(got) == 1 && len(got[0].Text) == 0 && (s.Dialect.Text && !got[0].Null || got[0].Null && s.Dialect.Null == ""):
		return fmt.Errorf("an empty line instead of %d fields", s.Width)
	case s.Tolerate: // hints are for a load of the whole file
		return fmt.Errorf("%s instead of %d", count, s.Width)
	case s.Tail && len(got) == s.Width+1:
		return fmt.Errorf("%d fields, but the header names %d; the last has no name; --columns names all fields", len(got), s.Width)
	case len(got) < s.Width:
		return fmt.Errorf("%s instead of %d; --short-rows null loads NULL for missing fields, and --skip N skips lines before the header", count, s.Width)
	case len(got) == s.Width+1 && got[s.Width].Null:
		return fmt.Errorf("%s instead of %d; if every record ends with a delimiter that the header lacks, --skip 1 --header no --columns names the fields and --map x= drops the last", count, s.Width)
	}
	return fmt.Errorf("%s instead of %d; --skip N skips lines before the header, --delimiter and --quote set the format of fields", count, s.Width)
}

// unexpected returns the first field without the form of its guessed type, or -1.
func (s *CSV) unexpected(fields []csv.Field) int {
	for i, f := range s.Expected {
		if f != 0 && i < len(fields) && !fields[i].Null && textForm(fields[i].Text)&f == 0 {
			return i
		}
	}
	return -1
}

func (s *CSV) unexpectedError(fields []csv.Field) error {
	i := s.unexpected(fields)
	name := fmt.Sprintf("field %d", i+1)
	for k, field := range s.Fields {
		if field == i {
			name = s.Cols[k].Name
		}
	}
	return fmt.Errorf("column %s: %q is not %s, the type guessed from the first records; load into another table with --types %s=TEXT, or from a file on disk", name, fields[i].Text[:min(len(fields[i].Text), maxName)], s.Expected[i], quoteIf(name))
}

// withoutBlank returns the end of a file without the blank lines behind its last record, and
// without an end-of-data mark. With one field per record, a blank line is a record.
func (s *CSV) withoutBlank(text []byte) []byte {
	text = s.Dialect.Unmarked(text)
	if s.Width < 2 {
		return text
	}
	kept := len(bytes.TrimRight(text, "\r\n"))
	if kept == 0 {
		return text[:0]
	}
	return text[:kept+s.Dialect.LineLen(text[kept:])]
}

// ordered returns the fields of a record in the order of the first file.
func (s *CSV) ordered(o *origin) []csv.Field {
	_, f := s.file(o.span.First)
	if f.Order == nil || len(o.fields) != len(f.Order) {
		return o.fields
	}
	o.other = append(o.other[:0], o.fields...)
	for i, at := range f.Order {
		o.fields[i] = o.other[at]
	}
	return o.fields
}
