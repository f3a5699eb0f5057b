//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// freeze stops a process and its children with SIGSTOP, until thaw is called.
func freeze(t *testing.T, pid int) (thaw func()) {
	t.Helper()
	list := append(childrenOf(t, pid), pid)
	thaw = func() {
		for _, p := range list {
			syscall.Kill(p, syscall.SIGCONT)
		}
	}
	t.Cleanup(thaw)
	for _, p := range list {
		if err := syscall.Kill(p, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	return thaw
}

// childrenOf returns the children of a process, by /proc.
func childrenOf(t *testing.T, parent int) (list []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		loadertest.Skip(t, "no /proc")
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(after); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}

// pidOf returns the process of a server that the test has started.
func pidOf(t *testing.T, db *localdb.DB) int {
	t.Helper()
	for _, name := range []string{"data/postmaster.pid", "pid"} {
		b, err := os.ReadFile(filepath.Join(db.Dir, name))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.Fields(string(b))[0]); err == nil {
			return pid
		}
	}
	t.Fatal("the server has no pid file")
	return 0
}

// TestStopWhateverHangs has the server, a pooler, the disk or the reader of the messages hang,
// and then presses Ctrl-C once: the command ends with one reason, and what it says leads to the
// end when nothing hangs any more.
func TestStopWhateverHangs(t *testing.T) {
	loadertest.Long(t)
	for _, product := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(product.String(), func(t *testing.T) {
			s, db := loadertest.OwnServer(t, product)
			hangs := []string{"server", "disk"}
			if product == server.CockroachDB {
				hangs = append(hangs, "server at IMPORT")
			} else {
				hangs = append(hangs, "pooler")
			}
			for _, what := range hangs {
				t.Run(what, func(t *testing.T) {
					url, p := s.NewDatabase(t), newPlace(t)
					loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
					at, table, rows := url, "points", int64(50_000)
					args := []string{"loader", "points", "--n", "50000", "--chunk", "10", "--workers", "2", "--chunk-timeout", "10m", "--retry-for", "10m"}
					ready := func() bool {
						return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_name = '"+table+"')") &&
							loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM "+table+")")
					}
					hang := func() func() { return freeze(t, pidOf(t, db)) }
					switch what {
					case "pooler":
						at = loadertest.Pooler(t, url, "pool_mode = session")
						hang = func() func() {
							for _, pid := range childrenOf(t, os.Getpid()) {
								if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) == "pgbouncer" {
									return freeze(t, pid)
								}
							}
							t.Fatal("no pgbouncer")
							return nil
						}
					case "server at IMPORT":
						rows = 1_000_000
						args = []string{"loader", "points", "--n", "1000000", "--via", "import"}
						ready = func() bool {
							return loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
						}
					case "disk":
						table, rows = "t", 40
						names := []string{filepath.Join(p.tmp, "a.csv"), filepath.Join(p.tmp, "b.csv")}
						for i, name := range names {
							var text strings.Builder
							for row := range 20 {
								fmt.Fprintf(&text, "%d,x\n", 100*i+row)
							}
							if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
								t.Fatal(err)
							}
						}
						// The second file is opened after the first is in, which takes a while.
						args = append([]string{"loader", "csv", "--table", "t", "--chunk", "1", "--workers", "1", "--order", "file", "--rate", "5"}, names...)
						hang = func() func() {
							if err := errors.Join(os.Rename(names[1], names[1]+".away"), syscall.Mkfifo(names[1], 0o600)); err != nil {
								t.Fatal(err)
							}
							loadertest.Eventually(t, "the first file", func() bool {
								return loadertest.Value[int64](t, url, "SELECT count(*) FROM t") == 20
							})
							return func() {
								if err := os.Rename(names[1]+".away", names[1]); err != nil {
									t.Error(err)
								}
							}
						}
					}
					var thaw func()
					cmd := p.command(at, args...)
					said := interrupted(t, cmd, 130, ready, func(string) {
						thaw = hang()
						if err := cmd.Process.Signal(os.Interrupt); err != nil {
							t.Error(err)
						}
					})
					thaw()
					if !strings.Contains(said, "\nloader: stopped") {
						t.Errorf("it says %s", said)
					}
					p.typeHint(t, url, said)
					if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+table); n != rows {
						t.Errorf("%d rows, want %d", n, rows)
					}
				})
			}
		})
	}
}

// TestStopWhileNobodyReads: a command whose messages fill a pipe that nobody reads, as a pager's,
// ends with the first Ctrl-C nevertheless.
func TestStopWhileNobodyReads(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, p := s.NewDatabase(t), newPlace(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd := p.command(url, "loader", "points", "--n", "50000", "--chunk", "10", "--echo")
		cmd.Stderr = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		last, still := int64(0), 0
		loadertest.Eventually(t, "a full pipe", func() bool {
			if !loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_name = 'points')") {
				return false
			}
			n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points")
			if still++; n == 0 || n != last {
				still = 0
			}
			last = n
			return still > 10 // a second at least
		})
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		loadertest.Eventually(t, "the end of the command", func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
	})
}
