package bench

import (
	"syscall"
	"time"
)

// processCPU returns the user and system time of this process so far; 0 if unknown.
func processCPU() time.Duration {
	var created, ended, kernel, user syscall.Filetime
	p, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0
	}
	if err := syscall.GetProcessTimes(p, &created, &ended, &kernel, &user); err != nil {
		return 0
	}
	return time.Duration(ticks(kernel)+ticks(user)) * 100
}

// ticks returns a time in units of 100 ns. Filetime.Nanoseconds would count from 1970.
func ticks(t syscall.Filetime) int64 { return int64(t.HighDateTime)<<32 | int64(t.LowDateTime) }
