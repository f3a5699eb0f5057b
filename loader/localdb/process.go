package localdb

import (
	"os"
	"os/exec"
	"runtime"
	"time"
)

// A process is a server started by this process.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed at its end
}

// startProcess starts cmd and appends its output to the file log. With tied, the server ends
// together with this process, even after kill -9; only on Linux.
func startProcess(cmd *exec.Cmd, log string, tied bool) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	detach(cmd, tied)
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the server to the thread that started it, so this goroutine keeps
		// that thread until the server has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill kills the process and waits for its end.
func (p *process) kill() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// halt asks the process to stop. fast means PostgreSQL's fast shutdown, which does not wait
// for its sessions.
func (p *process) halt(fast bool) error {
	if fast {
		return p.cmd.Process.Signal(os.Interrupt)
	}
	return interrupt(p.cmd.Process)
}

// stopTimeout bounds a clean shutdown.
const stopTimeout = 20 * time.Second
