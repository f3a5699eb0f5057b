package failure_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"bulkload/loader/failure"
)

// TestFileErrors holds what is said of a file that cannot be read or written, and whose fault
// that is.
func TestFileErrors(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/tmp/.x.part-7", Err: fs.ErrPermission}
	changed := failure.New(failure.Refused, "the file has changed")
	for _, x := range []struct {
		err  error
		text string
		kind failure.Kind
	}{
		{failure.Reading("a.csv", denied), "a.csv: permission denied", failure.Data},
		{failure.Reading("-", errors.New("broken pipe")), "standard input: broken pipe", failure.Data},
		{failure.Reading("a.csv", fmt.Errorf("byte 7: %w", changed)), "a.csv: byte 7: the file has changed", failure.Refused},
		{failure.Writing("x.csv", denied), "write x.csv: permission denied", failure.Target},
	} {
		var file *failure.FileError
		if x.err.Error() != x.text || failure.Of(x.err) != x.kind || !errors.As(x.err, &file) {
			t.Errorf("got %q of kind %s, want %q of kind %s", x.err, failure.Of(x.err), x.text, x.kind)
		}
	}
	if failure.Reading("a", nil) != nil || failure.Writing("a", nil) != nil {
		t.Error("no error became one")
	}
}
