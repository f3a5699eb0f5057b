package localdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// startCockroach starts a single node. The node listens only on the loopback address, at a
// port that stays the same after a restart. Without certificates it is insecure: anyone who
// can log in to this machine can connect.
func (db *DB) startCockroach(ctx context.Context) (*process, error) {
	if db.port == 0 {
		db.port = db.lastPort()
	}
	urlFile, pidFile := filepath.Join(db.Dir, "url"), filepath.Join(db.Dir, "pid")
	os.Remove(urlFile)
	security, host := "--insecure", "127.0.0.1"
	if db.certsDir != "" {
		security, host = "--certs-dir="+db.certsDir, "localhost" // the name in the certificates
	}
	cmd := exec.Command(db.Path, "start-single-node", security,
		"--store", db.data(),
		"--listen-addr", fmt.Sprintf("%s:%d", host, db.port), "--http-addr", "127.0.0.1:0",
		"--listening-url-file", urlFile, "--pid-file", pidFile,
		"--cache", "128MiB", "--max-sql-memory", "256MiB")
	cmd.Args = append(cmd.Args, db.settings...)
	cmd.Env = append(os.Environ(), "COCKROACH_SKIP_ENABLING_DIAGNOSTIC_REPORTING=true")
	if db.temporary && os.Getenv("GOGC") == "" {
		// The heap of a small server is small, too: by default it is collected so often that a
		// sixth of the server's time goes there.
		cmd.Env = append(cmd.Env, "GOGC=800")
	}
	cmd.Dir = db.Dir
	p, err := startProcess(cmd, db.log(), db.temporary)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", db.Binary, err)
	}
	for wait := 10 * time.Millisecond; ; wait = min(wait*3/2, 200*time.Millisecond) {
		b, err := os.ReadFile(urlFile)
		if err == nil && strings.HasSuffix(string(b), "\n") {
			if db.port, err = portOf(strings.TrimSpace(string(b))); err != nil {
				p.kill()
				return nil, err
			}
			break
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%s ended at once: %s", db.Binary, lastLine(db.log()))
		case <-ctx.Done():
			p.kill()
			return nil, fmt.Errorf("%s does not start: %w", db.Binary, ctx.Err())
		case <-time.After(wait):
		}
	}
	db.URL = fmt.Sprintf("postgres://root@127.0.0.1:%d/?sslmode=disable", db.port)
	if db.certsDir != "" {
		in := func(name string) string { return url.QueryEscape(filepath.Join(db.certsDir, name)) }
		db.URL = fmt.Sprintf("postgres://root@localhost:%d/?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s",
			db.port, in("ca.crt"), in("client.root.crt"), in("client.root.key"))
	}
	db.TCP = db.URL
	return p, db.await(ctx, p, db.log())
}

// lastPort returns the port of the node's previous run, or 0 if there is none. Reusing it
// keeps saved URLs valid.
func (db *DB) lastPort() int {
	b, err := os.ReadFile(filepath.Join(db.Dir, "url"))
	if err != nil {
		return 0
	}
	port, err := portOf(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return port
}

func portOf(rawURL string) (int, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return 0, fmt.Errorf("read the node's URL file: %w", err)
	}
	return strconv.Atoi(u.Port())
}

// stopCockroach stops the node of the pid file in the directory.
func (db *DB) stopCockroach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return db.endProcess(ctx, filepath.Join(db.Dir, "pid"), interrupt)
}

// endProcess asks the process of a pid file to end, and kills it if it does not.
func (db *DB) endProcess(ctx context.Context, pidFile string, ask func(*os.Process) error) error {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil // not running
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return fmt.Errorf("read the pid file: %w", err)
	}
	// The pid may have been reused; only the server itself answers.
	if db.answers(ctx) != nil {
		return nil
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	defer p.Release()
	if err := ask(p); err != nil {
		return err
	}
	for wait := 10 * time.Millisecond; alive(p); wait = min(wait*3/2, 200*time.Millisecond) {
		select {
		case <-ctx.Done():
			// Nothing is lost: confirmed data is on disk.
			return p.Kill()
		case <-time.After(wait):
		}
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
