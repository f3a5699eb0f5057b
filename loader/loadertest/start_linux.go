package loadertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Note: the two starts below stand in for package localdb; serverKind.start is
// the one place that knows how a server starts.

// startPostgreSQL runs a private PostgreSQL on a unix socket.
func startPostgreSQL(ctx context.Context) (url string, stop func() error, err error) {
	bin := ""
	for _, pattern := range []string{os.Getenv("LOADER_PG_BIN"), "/usr/lib/postgresql/*/bin"} {
		if found, _ := filepath.Glob(filepath.Join(pattern, "initdb")); len(found) > 0 {
			bin = filepath.Dir(found[len(found)-1])
			break
		}
	}
	if bin == "" {
		return "", nil, errNoServer
	}
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		return "", nil, err
	}
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return "", nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", nil, err
		}
	}
	init := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", dir+"/data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
	init.SysProcAttr, init.Dir = attr, dir
	if out, err := init.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", dir+"/data", "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off")
	server.SysProcAttr, server.Dir = attr, dir
	return launch(ctx, server, "postgres://postgres@/postgres?host="+dir, dir)
}

// startCockroach runs a private CockroachDB in memory.
func startCockroach(ctx context.Context) (url string, stop func() error, err error) {
	bin := os.Getenv("COCKROACH_BINARY")
	if bin == "" {
		bin = "cockroach"
	}
	if bin, err = exec.LookPath(bin); err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			err = errNoServer
		}
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr := l.Addr().String()
	l.Close()
	dir, err := os.MkdirTemp("", "crdb")
	if err != nil {
		return "", nil, err
	}
	server := exec.Command(bin, "start-single-node", "--insecure", "--store=type=mem,size=1GiB",
		"--listen-addr="+addr, "--http-addr=127.0.0.1:0", "--log=sinks: {stderr: {filter: FATAL}}")
	server.Dir = dir
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return launch(ctx, server, "postgres://root@"+addr+"/defaultdb?sslmode=disable", dir)
}

// launch starts the server and waits until it answers.
func launch(ctx context.Context, server *exec.Cmd, url, dir string) (string, func() error, error) {
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	gone := make(chan error, 1)
	go func() { gone <- server.Wait() }()
	stop := func() error {
		server.Process.Signal(syscall.SIGINT)
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			server.Process.Kill()
			<-gone
		}
		return os.RemoveAll(dir)
	}
	for {
		err := withConn(ctx, url, func(c *pgx.Conn) error { return c.Ping(ctx) })
		if err == nil {
			return url, stop, nil
		}
		select {
		case err := <-gone:
			return "", nil, fmt.Errorf("%s ended: %v", filepath.Base(server.Path), err)
		case <-ctx.Done():
			stop()
			return "", nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
