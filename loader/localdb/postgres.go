package localdb

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// longestSocket is the length that a socket's path may have; sockaddr_un has 108
// bytes on Linux and 104 on macOS, with a terminator.
const longestSocket = 103

func (db *DB) data() string { return filepath.Join(db.Dir, "data") }
func (db *DB) log() string  { return filepath.Join(db.Dir, "server.log") }

// startPostgres makes the data directory where it is missing, and starts a server
// that listens on a unix socket in a directory that only its user can enter.
func (db *DB) startPostgres(ctx context.Context) (*process, error) {
	run, err := runner(db.Dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(db.data(), "PG_VERSION")); err != nil {
		if err := db.initdb(ctx, run); err != nil {
			return nil, err
		}
	}
	socket := db.Dir
	if len(filepath.Join(socket, ".s.PGSQL.5432")) > longestSocket {
		if socket, err = os.MkdirTemp("", "ldb"); err != nil {
			return nil, err
		}
		if err := run.own(socket); err != nil {
			return nil, err
		}
	}
	args := []string{"-D", db.data(), "-k", socket, "-c", "unix_socket_permissions=0700"}
	db.URL = "postgres://postgres@/postgres?host=" + url.QueryEscape(socket)
	if db.temporary {
		if db.port == 0 {
			if db.port, err = freePort(); err != nil {
				return nil, err
			}
		}
		db.TCP = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", db.password, db.port)
		args = append(args, "-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", db.port), "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
		db.URL += fmt.Sprintf("&port=%d", db.port)
	} else {
		args = append(args, "-c", "listen_addresses=")
	}
	for _, s := range db.settings {
		args = append(args, "-c", s)
	}
	cmd := exec.Command(filepath.Join(db.Path, "postgres"), args...)
	cmd.Dir = db.Dir
	run.apply(cmd)
	p, err := startProcess(cmd, db.log(), db.temporary)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", db.Binary, err)
	}
	return p, db.await(ctx, p, db.log())
}

func (db *DB) initdb(ctx context.Context, run asUser) error {
	if err := run.own(db.Dir); err != nil {
		return fmt.Errorf("give the data directory to the server's user: %w", err)
	}
	db.password = randomPassword()
	pw := filepath.Join(db.Dir, "password")
	if err := os.WriteFile(pw, []byte(db.password), 0o600); err != nil {
		return err
	}
	defer os.Remove(pw)
	if err := run.own(pw); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(db.Path, "initdb"), "-D", db.data(), "-U", "postgres", "-E", "UTF8",
		"--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", pw)
	cmd.Dir = db.Dir
	run.apply(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		os.RemoveAll(db.data())
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("initdb of %s: %s (%w)", db.Binary, lines[len(lines)-1], err)
	}
	return nil
}

// stopPostgres stops the server in the data directory, by whomever it was started.
// pg_ctl knows a stale pid file from a running server.
func (db *DB) stopPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	run, err := runner(db.Dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(db.Path, "pg_ctl"), "stop", "-D", db.data(), "-m", "fast", "-w", "-s")
	cmd.Dir = db.Dir
	run.apply(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "PID file") {
		return fmt.Errorf("pg_ctl stop: %s (%w)", strings.TrimSpace(string(out)), err)
	}
	if u, err := url.Parse(db.URL); err == nil {
		if socket := u.Query().Get("host"); socket != db.Dir && strings.HasPrefix(filepath.Base(socket), "ldb") {
			os.RemoveAll(socket)
		}
	}
	return nil
}

// freePort returns a TCP port of the loopback address that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
