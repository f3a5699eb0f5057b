package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// A replacing is a table that a load of a file is to replace.
type replacing struct{ url, path string }

func newReplacing(t *testing.T) *replacing {
	t.Helper()
	r := &replacing{registered(t, loadertest.PostgreSQLServer(t)), filepath.Join(t.TempDir(), "t.csv")}
	if err := os.WriteFile(r.path, []byte("id,v\n1,new\n2,new\n3,new\n4,new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replacing) fresh(t *testing.T) {
	t.Helper()
	loadertest.Exec(t, r.url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT, n SERIAL, g INT8 GENERATED ALWAYS AS IDENTITY)", "CREATE INDEX by_v ON t (v)", "INSERT INTO t VALUES (1, 'old'), (7, 'old')")
}

func (r *replacing) command() []string {
	return []string{"csv", r.path, "--table", "t", "--replace", "--chunk", "2", "--workers", "1"}
}

// check compares what the table has, and what there is in its schema.
func (r *replacing) check(t *testing.T, when, want string) {
	t.Helper()
	if got := r.rows(t); got != want {
		t.Errorf("%s: got %s, want %s", when, got, want)
	}
	if got := loadertest.Value[string](t, r.url, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::REGNAMESPACE AND relname NOT LIKE 'first%'"); got != "by_v t t_g_seq t_n_seq t_pkey" {
		t.Errorf("%s: there are %s", when, got)
	}
}

func (r *replacing) rows(t *testing.T) string {
	t.Helper()
	return loadertest.Value[string](t, r.url, "SELECT string_agg(id || v, ' ' ORDER BY id) FROM t")
}

const oldRows, newRows = "1old 7old", "1new 2new 3new 4new"

// TestReplaceGivenUp replaces a table by the command, and gives up loads that have not replaced it.
func TestReplaceGivenUp(t *testing.T) {
	r := newReplacing(t)
	for _, how := range []string{"cancel", "forget"} {
		for _, complete := range []bool{false, true} {
			r.fresh(t)
			_, before := entered(t, r.url, 0)
			if complete {
				fault := &loadertest.Fault{When: loadertest.Match{SQL: "^ANALYZE", Kind: loadertest.MsgStatement}, Nth: 1, Do: loadertest.BlackHole}
				if !killAt(t, r.url, fault, exitOK, r.command()...) {
					t.Fatal("not killed")
				}
				loadertest.Exec(t, r.url, "ALTER TABLE t ADD COLUMN late INT8")
			} else if !killAt(t, r.url, &loadertest.Fault{When: loadertest.Match{SQL: "(INSERT INTO|COPY|copy) .*loader_replace", Kind: loadertest.MsgStatement}, Nth: 1, Do: loadertest.BlackHole}, exitOK, r.command()...) {
				t.Fatal("not killed")
			}
			id, _ := entered(t, r.url, before)
			if complete {
				cmd := command(r.url, "loads", "resume", id)
				var exit *exec.ExitError
				if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != exitRefused || !strings.Contains(string(out), "is not replaced: ") {
					t.Errorf("resume of a load whose target has changed: %v\n%s", err, out)
				}
			}
			if out := mustRun(t, r.url, "loads", "show", id); !strings.Contains(out, "resume with") {
				t.Errorf("loads show says\n%s", out)
			}
			args, says := []string{"loads", how, id}, "is dropped; public.t is as before"
			if complete {
				args, says = append(args, "--format", "json"), `,"dropped_table":"public.loader_replace_`+id+`"}`
			}
			if out := mustRun(t, r.url, args...); !strings.Contains(out, says) {
				t.Errorf("loads %s says %s", how, out)
			}
			r.check(t, how, oldRows)
		}
	}
	if out := mustRun(t, r.url, append([]string{"plan"}, r.command()...)...); !strings.Contains(out, "replaces public.t after the last row") {
		t.Errorf("the plan says\n%s", out)
	}
	r.check(t, "planned", oldRows)
	mustRun(t, r.url, r.command()...)
	r.check(t, "replaced", newRows)
}

// TestKilledWhileItReplaces kills the command at each of its statements, twice: others see the old rows or
// the new ones, and the load that is resumed ends with the new ones.
func TestKilledWhileItReplaces(t *testing.T) {
	loadertest.Long(t)
	r := newReplacing(t)
	kills, olds := 0, 0
	for n := 1; !t.Failed(); n++ {
		r.fresh(t)
		_, before := entered(t, r.url, 0)
		fault := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement}, Nth: (n + 1) / 2, Do: loadertest.SwallowReply}
		if n%2 == 0 { // the statement does not arrive
			fault.Do = loadertest.BlackHole
		}
		met := killAt(t, r.url, fault, exitOK, r.command()...)
		switch got := r.rows(t); {
		case got == oldRows:
			olds++
		case got != newRows:
			t.Fatalf("killed at statement %d: got %s, want all old rows or all new ones", n, got)
		}
		if id, _ := entered(t, r.url, before); id != "" {
			mustRun(t, r.url, "loads", "resume", id)
			r.check(t, "resumed", newRows)
			checkSettled(t, r.url)
		} else {
			mustRun(t, r.url, r.command()...)
			r.check(t, "loaded again", newRows)
		}
		if !met {
			break
		}
		kills++
	}
	if t.Logf("killed %d times, %d times before the swap", kills, olds); olds == kills || kills < 20 {
		t.Error("want more kills, of a swap too")
	}
}
