package commit

import (
	"errors"

	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A ToleranceError says that a load has more bad rows than it tolerates. The chunk that
// exceeded the limit is not committed.
type ToleranceError struct{ Err error }

// ErrorKind implements failure.Kinded.
func (e *ToleranceError) ErrorKind() failure.Kind { return failure.Data }

func (e *ToleranceError) Error() string { return e.Err.Error() }

func (e *ToleranceError) Unwrap() error { return e.Err }

// A DuplicateError says that rows of a chunk collide with each other, or with rows that the
// load did not write.
type DuplicateError struct {
	Key string // "id=17" of the first such row; empty if unknown
	Why string // the owner of the key; empty means a row that the load did not write
	Err error  // the server's error, where it gave one
}

// ErrorKind implements failure.Kinded.
func (e *DuplicateError) ErrorKind() failure.Kind { return failure.Data }

func (e *DuplicateError) Error() string {
	s := "duplicate key"
	if e.Key != "" {
		why := e.Why
		if why == "" {
			why = "a row that this load did not write has the same key"
		}
		s += " " + e.Key + ": " + why
	}
	if e.Err != nil {
		s += ": " + server.Reason(e.Err)
	}
	return s
}

func (e *DuplicateError) Unwrap() error { return e.Err }

// A RefusedError is a server error that no retry can fix.
type RefusedError struct{ Err error }

// ErrorKind implements failure.Kinded.
func (e *RefusedError) ErrorKind() failure.Kind { return server.KindOf(e.Err) }

func (e *RefusedError) Error() string { return server.Reason(e.Err) }

func (e *RefusedError) Unwrap() error { return e.Err }

// A RowError says that a row of a chunk is bad, and gives its place in the input.
type RowError struct {
	rows.Place
	Err error // the server's
}

// ErrorKind implements failure.Kinded.
func (e *RowError) ErrorKind() failure.Kind { return failure.Data }

func (e *RowError) Error() string {
	return e.Place.String() + ": " + columnPart(e.Err) + server.Reason(e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// errRetry asks for the next attempt at once, because this one gained information.
type errRetry struct{}

func (errRetry) Error() string { return "again" }

// isFinal reports whether err was made by this package and ends the chunk.
func isFinal(err error) bool {
	var dup *DuplicateError
	var row *RowError
	var many *ToleranceError
	return errors.As(err, &dup) || errors.As(err, &row) || errors.As(err, &many) || errors.Is(err, loader.ErrUnconfirmed) || errors.Is(err, loader.ErrLost)
}

// asFinal returns the error that ends a chunk.
func asFinal(class server.Class, err error) error {
	if class == server.Duplicate {
		return &DuplicateError{Err: err}
	}
	return &RefusedError{err}
}
