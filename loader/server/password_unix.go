//go:build unix

package server

import (
	"context"
	"os/exec"
	"syscall"
)

// shell returns a command of the shell. At its end the processes that it has started end too.
// Signals of the terminal do not reach it.
func shell(ctx context.Context, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}
