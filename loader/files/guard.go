package files

import (
	"bytes"
	"errors"

	"bulkload/chunker/csv"
)

// A Guard finds quoted fields that hold whole records of the file, for example because the
// quote means inches and does not enclose a field. Both readings are then possible, and only
// the user knows the right one. The zero value finds none.
type Guard struct {
	// On says that the quote is guessed. A quote named by the user is trusted.
	On bool `json:"on,omitempty"`
	// Forms are those of the fields in the first records; a line counts as a record if it
	// matches them.
	Forms []Form `json:"forms,omitempty"`
}

// errSwallowed: a quoted field may hold whole records.
var errSwallowed = errors.New(`a quoted field that begins here contains lines that look like records; --quote none reads quotes as text, --quote '"' accepts the field`)

// swallows reports whether each line of a record, the end of the last one aside, is a record by
// itself when quotes are text.
func (g *Guard) swallows(record []byte, d csv.Dialect, width int) bool {
	if !g.On || d.Quote == 0 || width < 2 {
		return false
	}
	record = bytes.TrimRight(record, "\r\n")
	end := byte('\n')
	if d.CR {
		end = '\r'
	}
	if bytes.IndexByte(record, end) < 0 {
		return false
	}
	plain := csv.Dialect{Delimiter: d.Delimiter, Null: d.Null}
	for line := range bytes.SplitSeq(record, []byte{end}) {
		if bytes.Count(line, []byte{d.Delimiter}) != width-1 {
			return false
		}
		fields, _, _ := plain.Fields(line, nil, nil)
		for i := range fields {
			if i < len(g.Forms) && g.Forms[i] != 0 && !fields[i].Null && textForm(bytes.Trim(fields[i].Text, string(d.Quote)))&g.Forms[i] == 0 {
				return false
			}
		}
	}
	return true
}
