package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
)

// A zombie is a command that is stopped by a signal, taken for dead, and woken.
type zombie struct {
	*exec.Cmd
	out   bytes.Buffer
	ended chan struct{}
}

func startZombie(t *testing.T, cmd *exec.Cmd) *zombie {
	t.Helper()
	z := &zombie{Cmd: cmd, ended: make(chan struct{})}
	z.Stdout, z.Stderr = &z.out, &z.out
	if err := z.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { z.Wait(); close(z.ended) }()
	t.Cleanup(func() { z.Process.Kill(); <-z.ended })
	return z
}

func (z *zombie) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := z.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wake has the zombie go on, and waits for its end, which must be with an exit code.
func (z *zombie) wake(t *testing.T, want int) {
	t.Helper()
	z.signal(t, syscall.SIGCONT)
	loadertest.Eventually(t, "the end of the command that was woken", func() bool {
		select {
		case <-z.ended:
			return true
		default:
			return false
		}
	})
	if code := z.ProcessState.ExitCode(); code != want {
		t.Errorf("the command that was woken ended with exit code %d, want %d\n%s", code, want, z.out.String())
	}
}

// age has the claims of all runs look as if nobody had worked on them for long.
func age(t *testing.T, url string) {
	t.Helper()
	loadertest.Exec(t, url, "UPDATE loader.claims SET beat = now() - INTERVAL '1 hour'")
}

// TestZombieOfATakeoverThatWasKilled stops a run that has transactions open, kills the
// resume that takes it over before the run's sessions have ended, resumes again, and wakes the first: nothing of
// it goes in beside what the last one loaded.
func TestZombieOfATakeoverThatWasKilled(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	const n = 20_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%d,row %d\n", i, i)
	}
	file := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url, "CREATE TABLE bare (id INT8, s TEXT)", "CREATE TABLE slow (yes BOOL)",
		`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF EXISTS (SELECT 1 FROM slow) THEN PERFORM pg_sleep(1); END IF; RETURN NULL; END $$`,
		"CREATE TRIGGER wait AFTER INSERT ON bare FOR EACH STATEMENT EXECUTE FUNCTION wait()")
	first := startZombie(t, command(url, "csv", file, "--columns", "id,s", "--table", "bare", "--commit", "transaction", "--chunk", "500", "--workers", "2", "--rate", "5000"))
	loadertest.Eventually(t, "rows of the first run", func() bool {
		return loadertest.Value[int64](t, url, "SELECT count(*) FROM bare") >= 1000
	})
	loadertest.Exec(t, url, "INSERT INTO slow VALUES (true)")
	sessions := func(where string) int64 {
		return loadertest.Value[int64](t, url, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'loader %' AND datname = current_database() AND "+where)
	}
	loadertest.Eventually(t, "two slow transactions", func() bool { return sessions("wait_event = 'PgSleep'") == 2 })
	first.signal(t, syscall.SIGSTOP)
	loadertest.Exec(t, url, "DELETE FROM slow")
	loadertest.Eventually(t, "two open transactions", func() bool { return sessions("state = 'idle in transaction'") == 2 })
	id, _ := entered(t, url, 0)
	age(t, url)
	// The second takes over, and is killed before it has ended a session.
	hold := &loadertest.Fault{When: loadertest.Match{SQL: `pg_terminate_backend\(\$1`, Kind: loadertest.MsgStatement}, Do: loadertest.BlackHoleAll}
	proxy := loadertest.NewProxy(t, url, hold)
	second := startZombie(t, command(proxy.URL(), "loads", "resume", id, "--chunk", "333"))
	select {
	case <-hold.Done():
	case <-second.ended:
		t.Fatalf("the second run has ended without a takeover: %s", second.out.String())
	}
	second.signal(t, syscall.SIGKILL)
	<-second.ended
	proxy.CloseAll()
	if n := sessions("state = 'idle in transaction'"); n != 2 {
		t.Fatalf("%d transactions of the first run are open, want 2", n)
	}
	mustRun(t, url, "loads", "resume", id, "--chunk", "100", "--workers", "4")
	first.wake(t, exitRefused)
	if got := loadertest.Value[int64](t, url, "SELECT count(*) FROM bare"); got != n {
		t.Errorf("%d rows are in, want %d", got, n)
	}
}

// TestZombieOfALoadThatIsDone stops a run in its middle, has another complete the load, and
// deletes rows: the first one, when it is woken, brings none of them back.
func TestZombieOfALoadThatIsDone(t *testing.T) {
	for _, way := range []string{"statement", "transaction"} {
		t.Run(way, func(t *testing.T) {
			loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
				if s.Cockroach && way == "transaction" {
					loadertest.Long(t)
				}
				if s.Cockroach {
					loadertest.Slow(t)
				}
				url := registered(t, s)
				_, before := entered(t, url, 0)
				first := startZombie(t, command(url, "points", "--n", "30000", "--commit", way, "--chunk", "20", "--workers", "4"))
				loadertest.Eventually(t, "rows of the first run", func() bool {
					return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'points')") &&
						loadertest.Value[int64](t, url, "SELECT count(*) FROM points") >= 1000
				})
				first.signal(t, syscall.SIGSTOP)
				id, _ := entered(t, url, before)
				if state := loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", id); state != "loading" {
					t.Fatalf("the load was %s when it was stopped, want loading", state)
				}
				age(t, url)
				mustRun(t, url, "loads", "resume", id)
				mustRun(t, url, "loads", "verify", id)
				loadertest.Exec(t, url, "DELETE FROM points")
				first.wake(t, exitRefused)
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
					t.Errorf("%d rows that were deleted are back", n)
				}
			})
		})
	}
}
