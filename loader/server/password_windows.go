package server

import (
	"context"
	"os/exec"
)

// shell returns a command of the shell.
func shell(ctx context.Context, command string) *exec.Cmd {
	return exec.CommandContext(ctx, "cmd", "/C", command)
}
