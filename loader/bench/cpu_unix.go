//go:build !windows

package bench

import (
	"syscall"
	"time"
)

// processCPU returns the user and system time of this process so far; 0 if unknown.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
