package localdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"bulkload/loader/server"
)

// longestSocket is the maximum length of a socket path. sockaddr_un has 108 bytes on Linux and
// 104 on macOS, including a terminator.
const longestSocket = 103

func (db *DB) data() string { return filepath.Join(db.Dir, "data") }
func (db *DB) log() string  { return filepath.Join(db.Dir, "server.log") }

// startPostgres initializes the data directory if needed, and starts a server that listens on
// a Unix socket in a directory that only its user can enter.
func (db *DB) startPostgres(ctx context.Context) (*process, error) {
	run, err := runner(db.Dir, db.Path)
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
		args = append(args, "-c", "listen_addresses=127.0.0.1", "-c", fmt.Sprintf("port=%d", db.port), "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200",
			// Stop kills the server: memory that has a file in its directory goes with that.
			"-c", "dynamic_shared_memory_type=mmap")
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

// initdb creates the data directory under a temporary name, so that it appears complete or not
// at all. It also removes the leftovers of a killed command.
func (db *DB) initdb(ctx context.Context, run asUser) error {
	left, err := filepath.Glob(filepath.Join(db.Dir, "new-*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := removeLeft(ctx, dir); err != nil {
			return fmt.Errorf("remove what an earlier command left: %w", err)
		}
	}
	if err := run.own(db.Dir); err != nil {
		return fmt.Errorf("give the data directory to the server's user: %w", err)
	}
	dir, err := os.MkdirTemp(db.Dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db.password = randomPassword()
	pw, data := filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(pw, []byte(db.password), 0o600); err != nil {
		return err
	}
	for _, path := range []string{dir, pw} {
		if err := run.own(path); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(db.Path, "initdb"), "-D", data, "-U", "postgres", "-E", "UTF8",
		"--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", pw)
	cmd.Dir = dir
	run.apply(cmd)
	detach(cmd, true)
	runtime.LockOSThread() // detach ties initdb to this thread
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("initdb of %s: %s (%w)", db.Binary, lines[len(lines)-1], err)
	}
	// A directory without PG_VERSION is not a database.
	if err := os.RemoveAll(db.data()); err != nil {
		return err
	}
	return os.Rename(data, db.data())
}

// removeLeft removes a directory. The last child of a killed initdb may still write to it for
// a moment, so removeLeft retries.
func removeLeft(ctx context.Context, dir string) error {
	for {
		err := os.RemoveAll(dir)
		if !errors.Is(err, fs.ErrExist) { // not empty
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stopOrphan stops a server that runs in the data directory although no state describes it:
// the command that started it was killed before it wrote the state.
func (db *DB) stopOrphan(ctx context.Context) {
	if db.Product == server.CockroachDB {
		b, err := os.ReadFile(filepath.Join(db.Dir, "url"))
		if err != nil {
			return
		}
		db.URL = strings.TrimSpace(string(b))
		for end := time.Now().Add(stopTimeout / 2); db.answers(ctx) != nil && time.Now().Before(end) && db.runs(); {
			time.Sleep(50 * time.Millisecond)
		}
		_ = db.stopCockroach(ctx) // an error does not matter: the next start shows whether one can run
		return
	}
	if _, err := os.Stat(filepath.Join(db.data(), "postmaster.pid")); err == nil {
		_ = db.stopPostgres(ctx) // it fails for a stale file, which the server detects itself
	}
}

// runs reports whether the process of the pid file is alive.
func (db *DB) runs() bool {
	b, err := os.ReadFile(filepath.Join(db.Dir, "pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return false
	}
	node, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer node.Release()
	return alive(node)
}

// stopPostgres stops the server in the data directory, whoever started it. pg_ctl
// distinguishes a stale pid file from a running server.
func (db *DB) stopPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	pgCtl := filepath.Join(db.Path, "pg_ctl")
	if _, err := exec.LookPath(pgCtl); err != nil || db.Path == "" {
		return db.stopWithoutBinaries(ctx)
	}
	run, err := runner(db.Dir, db.Path)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, pgCtl, "stop", "-D", db.data(), "-m", "fast", "-w", "-s")
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

// stopWithoutBinaries stops a server whose binaries are gone or unknown.
func (db *DB) stopWithoutBinaries(ctx context.Context) error {
	pidFile := filepath.Join(db.data(), "postmaster.pid")
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil // not running
	}
	// Lines: pid, data directory, start time, port, socket directory.
	if lines := strings.Split(string(b), "\n"); db.URL == "" && len(lines) > 4 {
		db.URL = fmt.Sprintf("postgres://postgres@/postgres?host=%s&port=%s", url.QueryEscape(lines[4]), strings.TrimSpace(lines[3]))
	}
	return db.endProcess(ctx, pidFile, func(p *os.Process) error { return p.Signal(os.Interrupt) })
}

// freePort returns a free TCP port on the loopback address.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
