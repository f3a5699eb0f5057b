package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// commits matches the message that makes a chunk of the subject durable, not those of the
// registry beside it.
func (s subject) commits() loadertest.Match {
	if s.way == "statement" {
		return rowsOf
	}
	rows, commit := regexp.MustCompile("(?i)"+rowsOf.SQL), regexp.MustCompile(`^(COMMIT|RELEASE SAVEPOINT cockroach_restart)`)
	open := map[int]bool{} // connections whose transaction has rows
	return loadertest.Match{Kind: loadertest.MsgStatement, Func: func(m *loadertest.Message) bool {
		if rows.MatchString(m.SQL) {
			open[m.Conn] = true
		}
		met := open[m.Conn] && commit.MatchString(m.SQL)
		if met {
			delete(open, m.Conn)
		}
		return met
	}}
}

// durable matches what makes something durable on either server: a chunk of any way, or
// a step of the registry.
var durable = loadertest.Match{SQL: `^(COMMIT|RELEASE SAVEPOINT cockroach_restart|(INSERT INTO|COPY) .*points)`, Kind: loadertest.MsgStatement}

// killAt runs the command through a proxy and kills it when the fault happens. It reports
// whether that met a live process; else the command must end with the exit code done.
func killAt(t *testing.T, url string, fault *loadertest.Fault, done int, args ...string) bool {
	t.Helper()
	proxy := loadertest.NewProxy(t, url, fault)
	defer proxy.Close()
	cmd := command(proxy.URL(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	select {
	case <-fault.Done():
		cmd.Process.Kill()
		<-ended
	case <-ended:
	}
	if wasKilled(cmd) {
		return true
	}
	if code := cmd.ProcessState.ExitCode(); code != done {
		t.Fatalf("%q, which was not killed: exit code %d, want %d", cmd.Args, code, done)
	}
	return false
}

// TestKilledAfterEachChunk kills the command when the server has not heard of the end of
// the first chunk, resumes it and kills it when the server has committed that chunk and
// the command has not heard of it, and so on with each chunk until nothing is left.
func TestKilledAfterEachChunk(t *testing.T) {
	loadertest.Long(t)
	const chunks = 3
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		for _, list := range subjects(t, s, chunks*100) {
			for _, sub := range list {
				if sub.rejects > 0 || sub.kind == "accounts" && sub.via == "insert" {
					continue // others stand for them
				}
				if sub.kind == "rows" && sub.way == "statement" {
					continue // tries its first rows before there is a load; killed by TestKilledAtAnyMomentAndResumed
				}
				sub.fresh(t, url)
				_, before := entered(t, url, 0)
				args := sub.command("--chunk", "100", "--workers", "1")
				kills, id, nth, in := 0, "", 1, int64(0)
				for {
					fault := &loadertest.Fault{When: sub.commits(), Nth: nth, Times: -1, Do: loadertest.BlackHole}
					if kills%2 == 1 {
						fault.Do = loadertest.SwallowReply
					}
					met := killAt(t, url, fault, sub.done(), args...)
					if id, _ = entered(t, url, before); id == "" {
						t.Fatalf("%s: killed at a chunk of a load that is not entered", sub)
					}
					if !met {
						break
					}
					if kills++; kills > 10*chunks {
						t.Fatalf("%s: killed %d times, and the load does not come to its end", sub, kills)
					}
					was := in
					if in = loadertest.Value[int64](t, url, "SELECT count(*) FROM "+sub.table); kills%2 == 0 && in == was {
						nth++ // a statement that is in was sent again, before it is looked up
					}
					args = sub.resume(id, "--chunk", fmt.Sprint(100-kills%2*30), "--workers", "1")
				}
				if kills < 2*chunks {
					t.Errorf("%s: killed %d times, want twice for each of %d chunks", sub, kills, chunks)
				}
				sub.check(t, url, id)
			}
		}
	})
}

// TestKilledAtEachStep kills the command at the first message that makes anything durable,
// a chunk or a step of the registry, then at the second, until a run is not met.
func TestKilledAtEachStep(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url, sub, kills, id := registered(t, s), subjects(t, s, 200)["csv"][0], 0, ""
		for n := 1; ; n++ {
			sub.fresh(t, url)
			_, before := entered(t, url, 0)
			fault := &loadertest.Fault{When: durable, Nth: n, Do: loadertest.SwallowReply}
			if n%2 == 0 {
				fault.Do = loadertest.BlackHole
			}
			met := killAt(t, url, fault, sub.done(), sub.command("--chunk", "1000", "--workers", "1")...)
			if id, _ = entered(t, url, before); id == "" {
				continue // killed before it was entered
			}
			if !met {
				break
			}
			kills++
			mustRun(t, url, sub.resume(id, "--chunk", fmt.Sprint(30+n*17))...)
			sub.checkRows(t, url)
			checkSettled(t, url)
		}
		sub.check(t, url, id)
		if t.Logf("killed %d times", kills); kills < 4 {
			t.Error("want more kills: of a claim, a chunk, its release, and the end")
		}
	})
}

// TestKilledWithItsOwnServer kills commands that have started their private server, also
// while it is being made, each twice, and lets one end: it works, and with it everything
// is gone but the data.
func TestKilledWithItsOwnServer(t *testing.T) {
	loadertest.Long(t)
	loadertest.Binary(t, server.PostgreSQL)
	k := &killing{rng: newRandom(t), want: 8}
	whole := time.Second
	for round := 0; k.kills < k.want; round++ {
		if round == k.want {
			t.Fatalf("%d runs were killed %d times, want %d", 2*round, k.kills, k.want)
		}
		p := newPlace(t)
		own := func() *exec.Cmd { return p.command("", "loader", "points", "--n", "3000", "--chunk", "50", "--quiet") }
		for range 2 {
			if killed(t, own(), k.moment(whole), exitOK) {
				k.kills++
			}
		}
		start := time.Now()
		runTo(t, exitOK, own())
		whole = max(time.Since(start), time.Second)
		p.checkEmpty(t)
	}
}
