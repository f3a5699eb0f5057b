package server

import "fmt"

// Failed prefixes err, an error of a database call, with the step that failed. Its text is
// that of Reason; errors.As finds the server's error.
func Failed(step string, err error) error { return fmt.Errorf("%s: %w", step, Reasoned(err)) }

// Reasoned returns err, an error of a database call, with the text of Reason. errors.As and
// errors.Is see through it.
func Reasoned(err error) error { return &reasoned{err} }

type reasoned struct{ err error }

func (r *reasoned) Error() string { return Reason(r.err) }
func (r *reasoned) Unwrap() error { return r.err }
