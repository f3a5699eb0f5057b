package server

import "strings"

// QuoteLiteral returns s as an SQL string literal. s must not contain NUL, and the session
// must have standard_conforming_strings on.
func QuoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Micros returns an SQL expression for a TIMESTAMPTZ as microseconds since 1970, an INT8. A
// result in text format, which statements that are not prepared have, follows the DateStyle of
// the session; a number does not.
func Micros(timestamptz string) string {
	return "(extract(epoch FROM " + timestamptz + ") * 1000000)::INT8"
}
