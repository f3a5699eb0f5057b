package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// killSubjects are what is loaded in 10 chunks and killed at each of them.
func killSubjects(t *testing.T) []killSubject {
	t.Helper()
	path := t.TempDir() + "/rows.csv"
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "%d,\"row\n%d\"\n", i, i)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return []killSubject{
		{"points", "points", "", []string{"points", "--n", "1000", "--commit", "statement"}},
		{"rows without a key", "t", "CREATE TABLE t (id INT8, s TEXT)", []string{"csv", path, "--table", "t", "--columns", "id,s"}},
		{"points by transaction", "points", "", []string{"points", "--n", "1000", "--commit", "transaction"}},
		{"accounts", "accounts", "", []string{"accounts", "--n", "1000"}},
	}
}

type killSubject struct {
	name, table, ddl string
	args             []string
}

// durable matches what makes something durable on either server: a chunk of any way, or
// a step of the registry.
var durable = loadertest.Match{SQL: `^(COMMIT|RELEASE SAVEPOINT cockroach_restart|(INSERT INTO|COPY) .*points)`, Kind: loadertest.MsgStatement}

// TestKilledAfterEachChunk kills the command when the server has committed the first chunk
// and the command has not heard of it, or before it was sent; then at the second, until
// a run is not met. Each load is resumed, is whole, and a further run writes nothing.
func TestKilledAfterEachChunk(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		for _, sub := range killSubjects(t) {
			t.Run(sub.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				if sub.ddl != "" {
					loadertest.Exec(t, url, sub.ddl)
				}
				// The table, the registry, and what is asked of them are there.
				mustRun(t, url, append(sub.args, "--chunk", "100", "--workers", "1")...)
				kills := 0
				for n := 1; ; n++ {
					loadertest.Exec(t, url, "DELETE FROM "+sub.table)
					if killedAt(t, url, sub, n) {
						kills++
						continue
					}
					break
				}
				t.Logf("killed %d times", kills)
				if kills == 0 {
					t.Error("nothing was killed")
				}
			})
		}
	})
}

// killedAt kills a load at its n-th durable step and resumes it. It reports whether the
// load has so many.
func killedAt(t *testing.T, url string, sub killSubject, n int) bool {
	t.Helper()
	fault := &loadertest.Fault{When: durable, Nth: n, Do: loadertest.SwallowReply}
	if n%2 == 0 {
		fault.Do = loadertest.BlackHole
	}
	proxy := loadertest.NewProxy(t, url, fault)
	defer proxy.Close()
	before := len(loads(t, url))
	cmd := command(proxy.URL(), append(sub.args, "--chunk", "100", "--workers", "1")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-fault.Done():
		cmd.Process.Kill()
		<-ended
	case err := <-ended:
		if err != nil {
			t.Fatalf("a load that was not killed: %v", err)
		}
	}
	list := loads(t, url)
	if len(list) == before { // killed before it was entered
		return true
	}
	proxy.CloseAll()
	mustRun(t, url, "loads", "resume", list[0].ID, "--chunk", fmt.Sprint(30+n*17))
	if sub.ddl == "" { // without a key nothing can be compared row by row
		mustRun(t, url, "loads", "verify", list[0].ID)
	}
	if n := loadertest.Value[int64](t, url, "SELECT count(DISTINCT id) + count(*) FROM "+sub.table); n != 2000 {
		t.Fatalf("%d rows and distinct ids together, want 1000 of each", n)
	}
	out := mustRun(t, url, "loads", "resume", list[0].ID, "--format", "json")
	if !strings.Contains(out, `"rows_this_run":0`) {
		t.Errorf("a further run writes: %s", out)
	}
	return fault.Fired()
}

// TestKilledWithItsOwnServer kills commands that have started their private server, also
// while it is being made, and lets one end: it works, and with it everything is gone but
// the data: processes, sockets, temporary files.
func TestKilledWithItsOwnServer(t *testing.T) {
	loadertest.Long(t)
	if _, err := localdb.FindProduct(server.PostgreSQL); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rounds := 2
	if loadertest.Chaos {
		rounds = 16
	}
	seed := rand.Uint64()
	t.Logf("seed of the moments: %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	whole := time.Second
	for round := range rounds {
		home := filepath.Join(dir, fmt.Sprint(round/2)) // each is killed twice
		tmp := filepath.Join(home, "tmp")
		if err := os.MkdirAll(tmp, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(tmp, 0o777|os.ModeSticky)
		own := func() *exec.Cmd {
			cmd := exec.Command(mustLookPath("loader"), "points", "--n", "3000", "--chunk", "50", "--quiet")
			cmd.Env = append(os.Environ(), "LOADER_DB_DIR="+filepath.Join(home, "db"), "TMPDIR="+tmp, "LOADER_URL=", "COCKROACH_BINARY=", "PATH="+filepath.Dir(mustLookPath("loader"))+":/usr/bin:/bin")
			return cmd
		}
		cmd := own()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(rng.Int64N(int64(whole)))
		timer := time.AfterFunc(moment, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		if round%2 == 0 {
			continue
		}
		start := time.Now()
		out, err := own().CombinedOutput()
		if err != nil {
			t.Fatalf("the run after one that was killed after %v: %v\n%s", moment, err, out)
		}
		whole = max(time.Since(start), time.Second)
		loadertest.Eventually(t, "no process of the private server", func() bool {
			found, _ := exec.Command("pgrep", "-f", home).Output()
			return len(found) == 0
		})
		if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
			t.Errorf("temporary files are left: %v, %v", entries, err)
		}
		var left []string
		found, err := filepath.Glob(filepath.Join(home, "db", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		hidden, _ := filepath.Glob(filepath.Join(home, "db", "*", ".*"))
		for _, path := range append(found, hidden...) {
			switch filepath.Base(path) {
			case "data", "server.log", "start.lock", "users.lock":
			default:
				left = append(left, path)
			}
		}
		if len(left) > 0 {
			t.Errorf("left beside the data: %q", left)
		}
	}
}
