// Package failure says what kinds of errors there are. Exit codes are a table over them.
package failure

import "errors"

// A Kind says what an error means to whoever runs a load. Exit codes are read from it.
type Kind int

// The kinds. Where an error has several of them, joined or wrapped, the first in this order
// counts.
const (
	None        Kind = iota
	Usage            // the command line, or the request, contradicts itself
	Interrupted      // the user wanted no more
	Unconfirmed      // the server has not confirmed what it should have, or has lost it
	Refused          // the load cannot be resumed, or not like this
	Data             // the rows are at fault
	GaveUp           // the server was away, or refused, for too long; the load can be resumed
	Target           // the server, the log-in or the table does not take the rows
	Fault            // of the loader itself
)

// String returns the kind in one word.
func (k Kind) String() string {
	return [...]string{"none", "usage", "stopped", "unconfirmed", "refused", "data", "gave up", "target", "fault"}[k]
}

// Kinded is implemented by errors that know their kind. What they wrap is not asked.
type Kinded interface{ ErrorKind() Kind }

// Of returns the kind of err; None where nothing in its tree is Kinded.
func Of(err error) Kind {
	kind := None
	consider := func(k Kind) {
		if k != None && (kind == None || k < kind) {
			kind = k
		}
	}
	switch e := err.(type) {
	case nil:
	case Kinded:
		consider(e.ErrorKind())
	case interface{ Unwrap() error }:
		consider(Of(e.Unwrap()))
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			consider(Of(part))
		}
	}
	return kind
}

// kinded is an error of a kind.
type kinded struct {
	error
	kind Kind
}

func (e *kinded) ErrorKind() Kind { return e.kind }
func (e *kinded) Unwrap() error   { return e.error }

// With returns err as one of the given kind, whatever it wraps.
func With(kind Kind, err error) error { return &kinded{err, kind} }

// New returns a new error of a kind, to be compared with errors.Is.
func New(kind Kind, text string) error { return &kinded{errors.New(text), kind} }
