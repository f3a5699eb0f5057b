package server

import "fmt"

// Failed returns err, of a database call, behind the step that failed: its text is
// Reason's, and errors.As finds what the server said.
func Failed(step string, err error) error { return fmt.Errorf("%s: %w", step, Reasoned(err)) }

// Reasoned returns err, of a database call, with the text of Reason. errors.As and errors.Is
// find what they find in err.
func Reasoned(err error) error { return &reasoned{err} }

type reasoned struct{ err error }

func (r *reasoned) Error() string { return Reason(r.err) }
func (r *reasoned) Unwrap() error { return r.err }
