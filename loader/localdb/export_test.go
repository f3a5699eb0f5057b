package localdb

import "time"

// For the tests of downloads.
var (
	Fetch   = fetch
	Fetched = fetched
	ErrSum  = errSum
)

// SetPin replaces what is expected of this system's package of PostgreSQL 18.
func SetPin(version string, size int64, sha512 string) (restore func()) {
	at := pinned{system(), 18}
	was := pins[at]
	pins[at] = pin{version, size, sha512}
	return func() { pins[at] = was }
}

// SetStall replaces the time in which nothing of a download arrives.
func SetStall(d time.Duration) { stallTimeout = d }

// Package is the name of this system's package.
func Package() string { return "@embedded-postgres/" + system() }
