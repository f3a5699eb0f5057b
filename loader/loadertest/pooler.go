package loadertest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

// Pooler starts pgbouncer before the PostgreSQL of a URL, and returns the URL through it. The
// settings are lines of its configuration: "pool_mode = transaction\ndefault_pool_size = 2". It
// ends with the test. Where pgbouncer is missing the test is skipped, or fails if
// LOADER_TEST_POOLER says that it must be there.
func Pooler(t testing.TB, address, settings string) string {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil { // not on everybody's PATH
			noPooler(t, "no pgbouncer on PATH")
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir, err := os.MkdirTemp("", "pooler")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	password, _ := u.User.Password()
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	for name, text := range map[string]string{
		users: fmt.Sprintf("%q %q\n", u.User.Username(), password),
		config: fmt.Sprintf("[databases]\n* = host=127.0.0.1 port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\n%s\n",
			u.Port(), port, users, settings),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{config}
	if os.Getuid() == 0 { // which it does not run as
		if _, err := user.Lookup("nobody"); err != nil {
			noPooler(t, "no user for pgbouncer")
		}
		args = append(args, "-u", "nobody")
	}
	var out strings.Builder
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	Eventually(t, "pgbouncer", func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return u.String()
}

// noPooler ends a test that has no pgbouncer.
func noPooler(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("LOADER_TEST_POOLER") != "" {
		t.Fatalf("%s, and LOADER_TEST_POOLER is set", why)
	}
	Skip(t, why)
}
