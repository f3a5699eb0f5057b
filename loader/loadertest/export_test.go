package loadertest

import "time"

// SetLeakTimeout makes a leak certain after d. It returns a function that undoes it.
func SetLeakTimeout(d time.Duration) (undo func()) {
	was := leakTimeout
	leakTimeout = d
	return func() { leakTimeout = was }
}

// SetWorn makes a CockroachDB worn after n tests. It returns a function that undoes it.
func SetWorn(n int) (undo func()) {
	was := worn
	worn = n
	return func() { worn = was }
}
