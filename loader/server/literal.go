package server

import "strings"

// QuoteLiteral returns s as a string literal of SQL. s holds no NUL, and the session has
// standard_conforming_strings on.
func QuoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
