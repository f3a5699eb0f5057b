//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A stopping is a way in which a user stops the command.
type stopping struct {
	name    string
	signals []syscall.Signal
	code    int
}

var stoppings = []stopping{
	{"Ctrl-C", []syscall.Signal{syscall.SIGINT}, 130},
	{"Ctrl-C twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, 130},
	{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, 143},
	{"SIGHUP", []syscall.Signal{syscall.SIGHUP}, 129},
}

// hanging is what the user does while the server hangs.
var hanging = stopping{"Ctrl-C while the server hangs", []syscall.Signal{syscall.SIGINT}, 130}

// twice reports whether the user does not wait for what runs.
func (s stopping) twice() bool { return len(s.signals) > 1 }

// stop starts the command, stops it when it is ready, and returns what it said.
func (how stopping) stop(t *testing.T, cmd *exec.Cmd, ready func() bool) string {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return interrupted(t, cmd, how.code, ready, func(stderr string) {
		for i, sig := range how.signals {
			if i > 0 {
				waitFor(t, stderr, "a second signal stops at once")
			}
			to := cmd.Process.Pid
			if sig == syscall.SIGINT {
				to = -to // a terminal sends it to the children as well
			}
			if err := syscall.Kill(to, sig); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// held returns a URL at which the tenth chunk takes a minute, if the user is not to
// wait for it, and what ends that.
func (how stopping) held(t *testing.T, url string) (held string, free func(), begun func() bool) {
	if !how.twice() && how.name != hanging.name {
		return url, func() {}, func() bool { return true }
	}
	fault := &loadertest.Fault{When: rowsOf, Nth: 10, Do: loadertest.BlackHole}
	proxy := loadertest.NewProxy(t, url, fault)
	t.Cleanup(proxy.Close)
	return proxy.URL(), func() { proxy.CloseAll(); proxy.Heal() }, fault.Fired
}

// TestSignals stops each kind of load. The command says so in a line and what to go on
// with, and that makes it exact; nothing is left.
func TestSignals(t *testing.T) {
	for _, how := range append(stoppings, hanging) {
		t.Run(how.name, func(t *testing.T) {
			if how.name == hanging.name {
				loadertest.Long(t) // waits for what hangs
			}
			loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
				kinds := []string{"points"}
				if loadertest.Chaos && !s.Cockroach {
					kinds = append(kinds, "accounts", "csv")
				}
				list := subjects(t, s, 20_000)
				for _, kind := range kinds {
					t.Run(kind, func(t *testing.T) {
						loadertest.CheckNoLeaks(t)
						sub, p, url := list[kind][0], newPlace(t), s.NewDatabase(t)
						sub.fresh(t, url)
						at, free, begun := how.held(t, url)
						args := append([]string{"loader"}, sub.args...)
						// Nothing but the signal ends what hangs.
						said := how.stop(t, p.command(at, append(args, "--chunk", "10", "--workers", "2", "--chunk-timeout", "10m", "--retry-for", "10m")...), func() bool {
							return begun() && loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM "+sub.table+")")
						})
						if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+sub.table); n == sub.n {
							t.Error("the load was over before it was stopped")
						}
						for name, want := range map[string]string{"Ctrl-C twice": "\nloader: stopped at once\n", hanging.name: "\nloader: stopped: running work did not end within 5s\n"} {
							if how.name == name && !strings.Contains(said, want) {
								t.Errorf("it says %s, want %q", said, want)
							}
						}
						free()
						if how.twice() { // the rows of its leases count, although they were not released
							l := loads(t, url)[0]
							if early, want := runTo(t, exitUnconfirmed, command(url, "loads", "verify", l.ID)), fmt.Sprintf("has %d of %d ", l.In, l.Of); !strings.Contains(early, want) {
								t.Errorf("loads verify says %s, want %q", early, want)
							}
						}
						sub.check(t, url, p.typeHint(t, url, said))
						p.checkEmpty(t)
					})
				}
			})
		})
	}
}

// TestSignalsDuringTransfers stops transfers: each is made once or not at all.
func TestSignalsDuringTransfers(t *testing.T) {
	loadertest.Long(t)
	for _, how := range stoppings {
		t.Run(how.name, func(t *testing.T) {
			loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
				loadertest.CheckNoLeaks(t)
				p, url := newPlace(t), s.NewDatabase(t)
				loadertest.Exec(t, url, bankDDL, "INSERT INTO accounts SELECT g, 1000000 FROM generate_series(1, 20) AS g")
				mustRun(t, url, "transfer")
				at, free, begun := how.held(t, url)
				how.stop(t, p.command(at, "loader", "transfer", "--n", "100000", "--workers", "2"), func() bool {
					return begun() && loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.transfers") > 1
				})
				free()
				checkTransfers(t, url, 20)
				p.checkEmpty(t)
			})
		})
	}
}

// TestSignalsWithItsOwnServer stops a command that has a private server, as a terminal
// does: the server goes with it, and comes again for what the command said.
func TestSignalsWithItsOwnServer(t *testing.T) {
	loadertest.Long(t)
	loadertest.Binary(t, server.PostgreSQL)
	for _, how := range stoppings {
		t.Run(how.name, func(t *testing.T) {
			p := newPlace(t)
			// What it says of its progress shows that it is at work.
			said := how.stop(t, p.command("", "loader", "points", "--n", "20000", "--chunk", "10", "--workers", "1"), func() bool { return true })
			p.checkEmpty(t)
			id := p.typeHint(t, "", said)
			out := runTo(t, exitOK, p.command("", "loader", "loads", "verify", id))
			if want := "20000 of 20000 rows match the seed, 0 changed, 0 missing, 0 other rows (not from this load)"; !strings.Contains(out, want) {
				t.Errorf("got %q, want %q", out, want)
			}
			p.checkEmpty(t)
		})
	}
}

// TestSignalCancelsTheImport: a signal has the server cancel the job. What is left is an
// online table without rows of it, and a load that can be resumed. Twice does not wait for
// that.
func TestSignalCancelsTheImport(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	for _, how := range stoppings {
		t.Run(how.name, func(t *testing.T) {
			p, url := newPlace(t), registered(t, s)
			const rows = 400_000
			said := how.stop(t, p.command(url, "loader", "points", "--n", fmt.Sprint(rows), "--via", "import"), func() bool {
				return loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.loads WHERE job IS NOT NULL") > 0
			})
			if !how.twice() {
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
					t.Errorf("%d rows are left", n)
				}
				if !strings.Contains(said, "none of its rows was loaded") {
					t.Errorf("the state is not said: %s", said)
				}
			}
			checkImported(t, url, p.typeHint(t, url, said), rows)
			p.checkEmpty(t)
		})
	}
}
