package failure

import (
	"errors"
	"fmt"
	"io/fs"
)

// A FileError says which file could not be read or written. Reading an input that fails is
// Data, unless Err has another kind; writing is Target.
type FileError struct {
	Name  string // as it was given; "-" is standard input
	Write bool   // it was written; else it was read
	Err   error
}

// ErrorKind implements Kinded.
func (e *FileError) ErrorKind() Kind {
	switch k := Of(e.Err); {
	case k != None:
		return k
	case e.Write:
		return Target
	}
	return Data
}

func (e *FileError) Error() string {
	name, err := e.Name, e.Err
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // it names the file too, or a temporary one beside it
	}
	switch {
	case e.Write:
		return fmt.Sprintf("write %s: %v", name, err)
	case name == "-":
		name = "standard input"
	}
	return fmt.Sprintf("%s: %v", name, err)
}

func (e *FileError) Unwrap() error { return e.Err }

// Reading returns err as that of reading a file; nil stays nil.
func Reading(name string, err error) error { return ofFile(name, false, err) }

// Writing returns err as that of writing a file; nil stays nil.
func Writing(name string, err error) error { return ofFile(name, true, err) }

func ofFile(name string, write bool, err error) error {
	if err == nil {
		return nil
	}
	return &FileError{Name: name, Write: write, Err: err}
}
