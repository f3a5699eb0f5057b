package commit

import (
	"io"

	"bulkload/loader/rows"
)

// Typed returns the SQL array type as which a column's texts are sent, and the parameter; ok is
// false if they are sent as texts.
func Typed(v *rows.Values) (array string, param any, ok bool) {
	w := wireOf(v.Column)
	if w == nil {
		return "", nil, false
	}
	b, ok := appendArray(nil, v, w)
	return w.array, binaryArray(b), ok
}

// Lend returns a reader of data, and the function that takes the data back.
func Lend(data []byte) (io.Reader, func()) {
	r := &lentReader{data: data}
	return r, r.takeBack
}
