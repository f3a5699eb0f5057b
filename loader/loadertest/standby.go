//go:build unix

package loadertest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/localdb"
)

// Standby starts a streaming standby of a PostgreSQL that OwnServer has started, and returns its
// URL. It has what the primary had when it began. It ends with the test. Standby needs the
// pg_basebackup of the primary's release; see Program.
func Standby(t *testing.T, primary *localdb.DB) string {
	t.Helper()
	Program(t, primary.Path, "pg_basebackup")
	u, err := url.Parse(primary.TCP)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	dir, err := os.MkdirTemp("", "standby")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// The server does not run as root: the primary's data tells its user.
	info, err := os.Stat(filepath.Join(primary.Dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	data := filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(primary.Path, name), args...)
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		}
		return cmd
	}
	password, _ := u.User.Password()
	backup := command("pg_basebackup", "-D", data, "-h", u.Hostname(), "-p", u.Port(), "-U", u.User.Username(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	backup.Env = append(os.Environ(), "PGPASSWORD="+password)
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %s (%v)", out, err)
	}
	var said strings.Builder
	cmd := command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", port), "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "max_prepared_transactions=10") // no fewer than the primary has
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT) // it ends all sessions first
		cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	Eventually(t, "the standby", func() bool {
		return exec.Command(filepath.Join(primary.Path, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", fmt.Sprint(port)).Run() == nil
	})
	Eventually(t, "the standby's stream", func() bool {
		return Value[bool](t, u.String(), "SELECT EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming')")
	})
	return u.String()
}
