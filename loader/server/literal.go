package server

import "strings"

// QuoteLiteral returns s as an SQL string literal. s must not contain NUL, and the session
// must have standard_conforming_strings on.
func QuoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
