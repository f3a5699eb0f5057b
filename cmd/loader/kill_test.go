package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// command returns the loader command with arguments, for a database.
func command(url string, args ...string) *exec.Cmd {
	cmd := exec.Command(mustLookPath("loader"), append(args, "--url", url, "--quiet")...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// loads returns the loads that the command lists.
func loads(t *testing.T, url string) []loadJSON {
	t.Helper()
	out, err := command(url, "loads", "list", "--format", "json").Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitRefused {
		return nil // killed before there was a registry
	}
	if err != nil {
		t.Fatalf("loads list: %v", err)
	}
	var list []loadJSON
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// mustRun runs the command, which must end well.
func mustRun(t *testing.T, url string, args ...string) string {
	t.Helper()
	cmd := command(url, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("loader %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// killAndResume starts a load, kills it at a random moment within the time that a whole
// one takes, resumes and kills it twice more with other settings, and lets the last one
// end. It returns the load's id, or "" where it was killed before there was one.
func killAndResume(t *testing.T, url string, rng *rand.Rand, whole time.Duration, args ...string) string {
	t.Helper()
	return killAndResumeTo(t, url, rng, whole, exitOK, args...)
}

// killAndResumeTo wants the last run to end with an exit code.
func killAndResumeTo(t *testing.T, url string, rng *rand.Rand, whole time.Duration, want int, args ...string) string {
	t.Helper()
	before := len(loads(t, url))
	for range 3 {
		cmd := command(url, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rng.Int64N(int64(whole))), func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		list := loads(t, url)
		if len(list) == before {
			continue // killed before it was entered
		}
		args = []string{"loads", "resume", list[0].ID, "--chunk", fmt.Sprint(50 + rng.Int64N(500)), "--workers", fmt.Sprint(1 + rng.Int64N(4))}
	}
	list := loads(t, url)
	if len(list) == before {
		return ""
	}
	last := command(url, "loads", "resume", list[0].ID)
	if out, _ := last.CombinedOutput(); last.ProcessState.ExitCode() != want {
		t.Fatalf("the last resume of load %s exits with %d, want %d:\n%s", list[0].ID, last.ProcessState.ExitCode(), want, out)
	}
	return list[0].ID
}

// TestCSVKilledAtAnyMomentAndResumed is the same for files, by the transaction way into
// a table without any key, with bad records, and by the statement way.
func TestCSVKilledAtAnyMomentAndResumed(t *testing.T) {
	rounds := 1
	if loadertest.Chaos {
		rounds = 6 // of three kills each, in each of four modes
	}
	var text, bad strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "%d,\"row\n%d\"\n", i, i)
		if fmt.Fprintf(&bad, "%d,\"row\n%d\"\n", i, i); i%500 == 0 {
			fmt.Fprintf(&bad, "x%d,bad\n", i)
		}
	}
	for _, mode := range []struct {
		commit, ddl, text string
		rejects           int64
	}{
		{"transaction", "CREATE TABLE t (id INT8, s TEXT)", bad.String(), 40},
		{"statement", "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)", text.String(), 0},
	} {
		t.Run(mode.commit, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/rows.csv"
			if err := os.WriteFile(path, []byte(mode.text), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"csv", path, "--table", "t", "--columns", "id,s", "--chunk", "100", "--commit", mode.commit, "--max-errors", fmt.Sprint(mode.rejects)}
			loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
				if s.Cockroach || mode.commit == "statement" {
					loadertest.Long(t)
				}
				t.Chdir(dir) // for the files of rejects
				url := s.NewDatabase(t)
				seed := rand.Uint64()
				t.Logf("seed of the moments: %d", seed)
				rng := rand.New(rand.NewPCG(seed, 0))
				loadertest.Exec(t, url, mode.ddl)
				start := time.Now()
				err := command(url, args...).Run()
				whole := time.Since(start)
				var exit *exec.ExitError
				if mode.rejects == 0 && err != nil || mode.rejects > 0 && (!errors.As(err, &exit) || exit.ExitCode() != exitRejected) {
					t.Fatal(err)
				}
				for range rounds {
					loadertest.Exec(t, url, "DELETE FROM t")
					// The last resume of a load with rejects ends with their code.
					id := func() string {
						if mode.rejects == 0 {
							return killAndResume(t, url, rng, whole, args...)
						}
						return killAndResumeTo(t, url, rng, whole, exitRejected, args...)
					}()
					if id == "" {
						continue
					}
					if mode.rejects == 0 {
						mustRun(t, url, "loads", "verify", id)
					}
					count := loadertest.Value[string](t, url, "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || count(DISTINCT s) FROM t")
					if count != "20000 20000 20000" {
						t.Fatalf("%s rows, ids and texts in the table, want 20000 of each", count)
					}
					if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.rejects WHERE load = $1", id); n != mode.rejects {
						t.Fatalf("%d rejects are recorded, want %d", n, mode.rejects)
					}
					if mode.rejects > 0 {
						list, err := os.ReadFile("rows-" + id + ".rejects.csv")
						if n := strings.Count(string(list), "bad\n"); err != nil || int64(n) != mode.rejects {
							t.Fatalf("the file of rejects has %d records, %v; want %d", n, err, mode.rejects)
						}
					}
				}
			})
		})
	}
}

// TestKilledAtAnyMomentAndResumed kills the command at random moments, resumes its
// load with other settings, kills that too, and lets the last one end.
func TestKilledAtAnyMomentAndResumed(t *testing.T) {
	rounds := 1
	if loadertest.Chaos {
		rounds = 6 // of three kills each, in each of six modes
	}
	usual := map[string]bool{"points by statement/CockroachDB": true}
	for _, mode := range []struct{ what, commit string }{
		{"points", "statement"}, {"points", "transaction"}, {"accounts", "transaction"},
	} {
		t.Run(mode.what+" by "+mode.commit, func(t *testing.T) {
			loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
				if !usual[mode.what+" by "+mode.commit+"/"+s.Name] {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				seed := rand.Uint64()
				t.Logf("seed of the moments: %d", seed)
				rng := rand.New(rand.NewPCG(seed, 0))
				// The table and the registry are there, and the time of a run is known.
				start := time.Now()
				mustRun(t, url, mode.what, "--n", "20000", "--chunk", "100", "--commit", mode.commit)
				whole := time.Since(start)
				want := int64(20000)
				for range rounds {
					id := killAndResume(t, url, rng, whole, mode.what, "--n", "20000", "--chunk", "100", "--commit", mode.commit)
					if id == "" {
						continue
					}
					mustRun(t, url, "loads", "verify", id)
					want += 20000
					if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+mode.what); n != want {
						t.Fatalf("%d rows in the table, want %d", n, want)
					}
				}
			})
		})
	}
}

// TestKilledWithDeferredIndexes kills a load that has dropped its indexes, and resumes or
// cancels it: every index is back.
func TestKilledWithDeferredIndexes(t *testing.T) {
	loadertest.Long(t)
	rounds := 1
	if loadertest.Chaos {
		rounds = 6
	}
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		seed := rand.Uint64()
		t.Logf("seed of the moments: %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		const count = "SELECT count(DISTINCT indexname) FROM pg_indexes WHERE tablename = 'points'"
		fresh := func() {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS points",
				"CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)",
				"CREATE INDEX by_x ON points (x)", "CREATE UNIQUE INDEX by_yz ON points (y, z)")
		}
		fresh()
		args := []string{"points", "--n", "20000", "--chunk", "500", "--indexes", "defer"}
		start := time.Now()
		mustRun(t, url, args...)
		whole := time.Since(start)
		for round := range rounds {
			fresh()
			before := len(loads(t, url))
			cmd := command(url, args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(rng.Int64N(int64(whole))), func() { cmd.Process.Kill() })
			cmd.Wait()
			timer.Stop()
			if list := loads(t, url); len(list) > before {
				if round%2 == 0 || list[0].State == "done" {
					mustRun(t, url, "loads", "resume", list[0].ID)
					mustRun(t, url, "loads", "verify", list[0].ID)
				} else {
					mustRun(t, url, "loads", "cancel", list[0].ID)
					if err := command(url, "loads", "resume", list[0].ID).Run(); err == nil {
						t.Error("a cancelled load is resumed")
					}
				}
			}
			if n := loadertest.Value[int64](t, url, count); n != 3 {
				t.Fatalf("round %d: %d indexes, want 3", round, n)
			}
		}
	})
}

// waitFor polls a file until it matches.
func waitFor(t *testing.T, path, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	loadertest.Eventually(t, pattern, func() bool {
		b, _ := os.ReadFile(path)
		found = re.FindString(string(b))
		return found != ""
	})
	return found
}

func TestSignals(t *testing.T) {
	for _, test := range []struct {
		name   string
		signal []os.Signal
		code   int
	}{
		{"SIGINT", []os.Signal{os.Interrupt}, 130},
		{"SIGTERM", []os.Signal{syscall.SIGTERM}, 143},
		{"SIGINT twice", []os.Signal{os.Interrupt, os.Interrupt}, 130},
	} {
		t.Run(test.name, func(t *testing.T) {
			loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
				if s.Cockroach != (test.name == "SIGINT") {
					loadertest.Long(t)
				}
				url := s.NewDatabase(t)
				path := t.TempDir() + "/stderr"
				stderr, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				defer stderr.Close()
				cmd := exec.Command(mustLookPath("loader"), "points", "--n", "200000", "--chunk", "50", "--url", url)
				cmd.Stderr = stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				waitFor(t, path, "target: ")
				loadertest.Eventually(t, "the first rows", func() bool {
					return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM points)")
				})
				for i, sig := range test.signal {
					if i > 0 {
						waitFor(t, path, "once more stops at once")
					}
					if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
						t.Fatal(err)
					}
				}
				err = cmd.Wait()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != test.code {
					t.Errorf("got %v, want exit code %d", err, test.code)
				}
				hint := waitFor(t, path, "go on with: loader loads resume [0-9a-z]+")
				id := hint[strings.LastIndex(hint, " ")+1:]
				mustRun(t, url, "loads", "resume", id, "--chunk", "5000")
				mustRun(t, url, "loads", "verify", id)
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 200_000 {
					t.Errorf("the table has %d rows, want 200000", n)
				}
			})
		})
	}
}
