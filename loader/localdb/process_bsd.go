//go:build unix && !linux

package localdb

import "syscall"

const canMap = false

func tie(*syscall.SysProcAttr)         {}
func mapToNobody(*syscall.SysProcAttr) {}
