// Package failure has the kinds of errors, and the error of a file. Exit codes are a table over
// the kinds. It decides nothing by an error's text.
package failure

import "errors"

// A Kind says what an error means to the user.
type Kind int

// The kinds. Where an error has several of them, joined or wrapped, the first in this order
// counts.
const (
	None        Kind = iota
	Usage            // the command line, or the request, contradicts itself
	Interrupted      // the user stopped the command
	Unconfirmed      // the server has not confirmed all rows, or has lost some
	Refused          // the load cannot be resumed
	Data             // rows or their files are bad
	GaveUp           // the server was away or refused for too long; the load can be resumed
	Target           // the server, the login or the table does not accept the rows
	Fault            // the loader is wrong
)

// String returns the kind in one word.
func (k Kind) String() string {
	return [...]string{"none", "usage", "stopped", "unconfirmed", "refused", "data", "gave up", "target", "fault"}[k]
}

// Kinded is implemented by errors that know their kind. The errors that they wrap do not count.
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

// ErrGaveUp: retrying did not help within its time. It is loader.ErrGaveUp, and stands here
// for the packages below loader.
var ErrGaveUp = New(GaveUp, "gave up retrying")
