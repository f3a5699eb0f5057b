package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

func TestMain(m *testing.M) {
	// testscript runs this binary again as the command loader; only the outer
	// run has servers to stop.
	testscript.Main(mainFunc(func() int {
		// A command that is begun where SIGHUP is ignored, as by nohup, ignores it too.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
		return loadertest.Run(m)
	}), map[string]func(){
		"loader": main,
	})
}

type mainFunc func() int

func (f mainFunc) Run() int { return f() }

// TestScripts runs the scripts in testdata/script. In them $PG and $CRDB are the URLs
// of a server's empty database, the latter only with the condition [cockroach];
// without --url the command starts a private PostgreSQL in the script's own directory.
func TestScripts(t *testing.T) {
	loadertest.Binary(t, server.PostgreSQL)
	pg := loadertest.PostgreSQLServer(t)
	var crdb loadertest.Server
	_, noCockroach := loadertest.Find(server.CockroachDB)
	if noCockroach == nil { // not asked for by the scripts themselves, which run side by side
		crdb = loadertest.CockroachServer(t)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		RequireExplicitExec: true,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "cockroach":
				return noCockroach == nil, nil
			case "chaos":
				return loadertest.Chaos, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			dir, err := os.MkdirTemp("", "loader-script")
			if err != nil {
				return err
			}
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("PG", pg.NewDatabase(tb))
			if noCockroach == nil {
				env.Setenv("CRDB", crdb.NewDatabase(tb))
			}
			env.Setenv("LOADER_DB_DIR", dir)
			env.Setenv("LOADER_PG_BIN", os.Getenv("LOADER_PG_BIN"))
			// No cockroach for the private database: it starts more slowly, and the
			// scripts must say the same on machines without one.
			env.Setenv("COCKROACH_BINARY", "")
			env.Setenv("PATH", filepath.Dir(mustLookPath("loader"))+":/usr/bin:/bin")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"sql":   runSQL,
			"env-from-stdout": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
		},
	})
}

func mustLookPath(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		panic(err)
	}
	return path
}

// exits runs a command and checks its exit code: exits 4 loader points …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if exit, ok := err.(*exec.ExitError); ok {
		got = fmt.Sprint(exit.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// runSQL runs statements at a URL, and prints the rows that they give, their values with
// | between them: sql $PG 'CREATE TABLE …'
func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: sql URL STATEMENT…")
	}
	cfg, err := server.Parse(args[0])
	ts.Check(err)
	for _, q := range args[1:] {
		_, rows, err := server.Run(context.Background(), cfg, q)
		ts.Check(err)
		for _, r := range rows {
			fmt.Fprintln(ts.Stdout(), strings.Join(r, "|"))
		}
	}
}
