//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"bulkload/loader/loadertest"
)

// A terminal is the command running at one, and all that it has shown.
type terminal struct {
	cmd *exec.Cmd
	tty *os.File
	end chan struct{}

	mu    sync.Mutex
	shown strings.Builder
}

// startTerminal starts the command at a terminal.
func startTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(mustLookPath("loader"), args...)
	cmd.Env = plainEnv()
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{cmd: cmd, tty: tty, end: make(chan struct{})}
	t.Cleanup(func() { tty.Close() })
	go func() {
		defer close(term.end)
		b := make([]byte, 1024)
		for {
			n, err := tty.Read(b)
			term.mu.Lock()
			term.shown.Write(b[:n])
			term.mu.Unlock()
			if err != nil {
				return // EIO: the command has ended
			}
		}
	}()
	return term
}

// screen returns what was shown until now.
func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

// await polls the screen until it has text.
func (term *terminal) await(t *testing.T, text string) {
	t.Helper()
	loadertest.Eventually(t, text+" on the terminal", func() bool { return strings.Contains(term.screen(), text) })
}

// wait returns the exit code and the whole screen.
func (term *terminal) wait(t *testing.T) (int, string) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { term.cmd.Process.Kill() })
	defer timer.Stop()
	term.cmd.Wait()
	<-term.end
	return term.cmd.ProcessState.ExitCode(), term.screen()
}

// TestPasswords logs in with a password in every way that there is, and looks for it
// where it must not be: on the screen and in the list of processes.
func TestPasswords(t *testing.T) {
	loadertest.EachSecureServer(t, func(t *testing.T, s *loadertest.SecureServer) {
		canary := loadertest.NewCanary()
		loadertest.Exec(t, s.URL(), "CREATE DATABASE bank")
		s.NewUser("passmax", canary.Password(), "bank")
		ca := filepath.Join(s.CertsDir, "ca.crt")
		url := s.URLOf("passmax", "bank", map[string]string{"sslmode": "verify-full", "sslrootcert": ca})
		// pg_user is a table that everybody may read, with one row at least.
		args := []string{"count", "--quiet", "--table", "pg_catalog.pg_user", "--url", url}

		dir := t.TempDir()
		passfile := filepath.Join(dir, "pass")
		quoted := strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(canary.Password())
		if err := os.WriteFile(passfile, fmt.Appendf(nil, "localhost:%d:bank:passmax:%s\n", s.Port, quoted), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, a := range map[string]attempt{
			"PGPASSWORD":        {env: []string{"PGPASSWORD=" + canary.Password()}, want: "[1-9][0-9]*"},
			"PGPASSFILE":        {env: []string{"PGPASSFILE=" + passfile}, want: "[1-9][0-9]*"},
			"a wrong one":       {env: []string{"PGPASSWORD=wrong"}, code: exitTarget, want: "loader: connect to .*: password authentication failed for user \"?passmax\"? .SQLSTATE (28P01|XXUUU)."},
			"none, no terminal": {code: exitTarget, want: "loader: connect to .*: password authentication failed for user \"?passmax\"? .SQLSTATE (28P01|XXUUU)."},
		} {
			a.name, a.url, a.args = name, url, []string{"--table", "pg_catalog.pg_user"}
			a.try(t)
		}

		const prompt = "password of passmax at localhost:"
		t.Run("prompt", func(t *testing.T) {
			term := startTerminal(t, args...)
			term.await(t, prompt)
			checkProcess(t, term.cmd.Process.Pid, canary)
			io.WriteString(term.tty, canary.Password()+"\n")
			code, screen := term.wait(t)
			canary.Check(t, "the screen", screen)
			last := screen[strings.LastIndex(strings.TrimSpace(screen), "\n")+1:]
			if code != exitOK || strings.Trim(last, "0123456789\r\n") != "" {
				t.Errorf("exit code %d, the screen ends in %q", code, last)
			}
		})
		t.Run("prompt, a wrong one", func(t *testing.T) {
			term := startTerminal(t, args...)
			term.await(t, prompt)
			io.WriteString(term.tty, "wrong\n")
			if code, screen := term.wait(t); code != exitTarget || !strings.Contains(screen, "password authentication failed") {
				t.Errorf("exit code %d: %s", code, screen)
			}
		})
		t.Run("prompt, broken off", func(t *testing.T) {
			term := startTerminal(t, args...)
			term.await(t, prompt)
			term.cmd.Process.Signal(os.Interrupt)
			if code, screen := term.wait(t); code != 130 || !strings.Contains(screen, "loader: no password was typed") {
				t.Errorf("exit code %d: %s", code, screen)
			}
		})
		t.Run("no prompt where a password is known", func(t *testing.T) {
			term := startTerminal(t, "count", "--quiet", "--table", "pg_catalog.pg_user", "--url", strings.Replace(url, "passmax@", "passmax:wrong@", 1))
			if code, screen := term.wait(t); code != exitTarget || strings.Contains(screen, prompt) {
				t.Errorf("exit code %d: %s", code, screen)
			}
		})
	}, loadertest.PostgreSQL)
}

// checkProcess looks for the password where other users of the machine can look.
func checkProcess(t *testing.T, pid int, canary loadertest.Canary) {
	t.Helper()
	for _, name := range []string{"cmdline", "comm"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Logf("not looked at: %v", err) // not Linux
			continue
		}
		canary.Check(t, name, string(b))
	}
}
