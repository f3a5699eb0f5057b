//go:build unix

package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// A tokenUser is a user whose password a file holds, as a command gives it.
type tokenUser struct {
	direct, address, name string
	file, runs            string
}

// newTokenUser makes a user who may load into a new database.
func newTokenUser(t *testing.T) *tokenUser {
	t.Helper()
	s := loadertest.PostgreSQLServer(t)
	u := &tokenUser{direct: s.NewDatabase(t), file: filepath.Join(t.TempDir(), "token"), runs: filepath.Join(t.TempDir(), "runs")}
	at, err := url.Parse(u.direct)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	u.name = "tok_" + strings.TrimPrefix(at.Path, "/")
	u.password(t, "first-token")
	loadertest.Exec(t, u.direct, "CREATE ROLE "+u.name+" LOGIN PASSWORD 'first-token'", "GRANT ALL ON SCHEMA public TO "+u.name,
		"DO $$ BEGIN EXECUTE 'GRANT ALL ON DATABASE ' || current_database() || ' TO "+u.name+"'; END $$")
	t.Cleanup(func() {
		loadertest.Exec(t, u.direct, "DROP OWNED BY "+u.name+" CASCADE", "DROP ROLE "+u.name)
	})
	at.User = url.User(u.name)
	u.address = at.String()
	return u
}

// password writes what the command gives from now on.
func (u *tokenUser) password(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(u.file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// command gives the password, and counts how often.
func (u *tokenUser) command() string {
	return fmt.Sprintf("echo run >> '%s'; cat '%s'", u.runs, u.file)
}

// times is how often it was run.
func (u *tokenUser) times(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(u.runs)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "run")
}

// TestPasswordCommand takes the password from a command, and shows nothing of what it writes.
func TestPasswordCommand(t *testing.T) {
	u := newTokenUser(t)
	try := func(want int, text, with string, args ...string) {
		t.Helper()
		out := runTo(t, want, command(u.address+with, args...))
		if !strings.Contains(out, text) {
			t.Errorf("%q: got %s, want %q", args, out, text)
		}
		for _, secret := range []string{"first-token", "wrong-token"} {
			if strings.Contains(out, secret) {
				t.Errorf("%q: the password is shown: %s", args, out)
			}
		}
	}
	load := func(command string, more ...string) []string {
		return append([]string{"points", "--n", "100", "--password-command", command}, more...)
	}
	try(exitOK, "loaded 100 points", "", load(u.command(), "--echo", "--verbose", "--workers", "2")...)
	if n := u.times(t); n < 2 {
		t.Errorf("the command was run %d times, want once for each connection", n)
	}
	try(exitOK, `"rows":100,`, "", load(u.command(), "--format", "json")...)
	try(exitTarget, "the password command ended with exit code 3", "", load("echo wrong-token; echo wrong-token >&2; exit 3", "--verbose")...)
	try(exitTarget, "the password command wrote no password", "", load("true")...)
	try(exitTarget, "the password command was ended by a signal", "", load("kill -9 $$")...)
	try(exitTarget, "the password command wrote more than 65536 bytes", "", load("head -c 70000 /dev/zero")...)
	try(exitTarget, "the password command did not end in time", "&connect_timeout=1", load("sleep 600; echo first-token")...)
	try(exitTarget, "28P01", "", load("echo wrong-token", "--verbose", "--echo")...)
	// A password that the server refuses is asked for once more.
	try(exitOK, "loaded 100 points", "", load(fmt.Sprintf("test -e '%[1]s' && cat '%[2]s' || { touch '%[1]s'; echo wrong-token; }", u.file+".asked", u.file))...)
	try(exitUsage, "--password-command is empty", "", load(" ")...)
	if out := runTo(t, exitUsage, command(u.direct, load(u.command())...)); !strings.Contains(out, "cannot be used with a password in the URL") {
		t.Errorf("got %s", out)
	}
	local := command("", load(u.command())...)
	local.Args = slices.DeleteFunc(local.Args, func(arg string) bool { return arg == "--url" || arg == "" })
	if out := runTo(t, exitUsage, local); !strings.Contains(out, "--password-command needs --url") {
		t.Errorf("got %s", out)
	}
}

// TestPasswordThatExpires changes the password while a load runs, and ends its sessions: the
// command is asked again, until it gives the new one.
func TestPasswordThatExpires(t *testing.T) {
	u := newTokenUser(t)
	cmd := command(u.address, "points", "--n", "1500", "--chunk", "50", "--rate", "1000", "--password-command", u.command())
	out, ended := "", make(chan struct{})
	go func() {
		defer close(ended) // also if it ends with another exit code
		out = runTo(t, exitOK, cmd)
	}()
	over := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	loadertest.Eventually(t, "the first rows", func() bool {
		return loadertest.Value[bool](t, u.direct, "SELECT to_regclass('points') IS NOT NULL") && loadertest.Value[int](t, u.direct, "SELECT count(*) FROM points") > 0
	})
	loadertest.Exec(t, u.direct, "ALTER ROLE "+u.name+" PASSWORD 'second-token'")
	loadertest.PostgreSQLServer(t).EndSessions(t, u.direct)
	before := u.times(t)
	loadertest.Eventually(t, "another question", func() bool { return u.times(t) >= before+2 || over() })
	u.password(t, "second-token")
	if <-ended; strings.Contains(out, "-token") || !strings.Contains(out, "loaded 1500 points") {
		t.Errorf("got %s", out)
	}
	if n := loadertest.Value[int](t, u.direct, "SELECT count(*) FROM points"); n != 1500 {
		t.Errorf("%d rows are in", n)
	}
}
