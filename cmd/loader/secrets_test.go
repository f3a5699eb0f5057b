package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// A secretForm is one way to give the command a password.
type secretForm struct {
	name string
	args []string // what stands for the server
	env  []string
	open bool // on the command line, where every user of the machine can read it
}

// secretForms gives the password to a server in every way that there is.
func secretForms(t *testing.T, u *url.URL, canary loadertest.Canary) []secretForm {
	t.Helper()
	host, port, user, db := u.Hostname(), u.Port(), u.User.Username(), strings.TrimPrefix(u.Path, "/")
	p := canary.Password()
	with := *u
	with.User = url.UserPassword(user, p)
	none := *u
	none.User = url.User(user)
	pairs := fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable", host, port, user, db)
	escaped := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p) + "'"
	passfile := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(passfile, []byte("*:*:*:*:"+strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(p)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []secretForm{
		{"URL", []string{"--url", with.String()}, nil, true},
		{"LOADER_URL", nil, []string{"LOADER_URL=" + with.String()}, false},
		{"DATABASE_URL", []string{"--url", "env"}, []string{"DATABASE_URL=" + with.String()}, false},
		{"key=value", []string{"--url", pairs + " password=" + escaped}, nil, true},
		{"key = value", []string{"--url", pairs + " password = " + escaped}, nil, true},
		{"PGPASSWORD", []string{"--url", none.String()}, []string{"PGPASSWORD=" + p}, false},
		{"passfile", []string{"--url", none.String() + "&passfile=" + url.QueryEscape(passfile)}, nil, false},
		{"PGPASSFILE", []string{"--url", pairs}, []string{"PGPASSFILE=" + passfile}, false},
		{"sslpassword", []string{"--url", with.String() + "&sslpassword=" + strings.ReplaceAll(url.QueryEscape(p), "+", "%20")}, nil, true},
	}
}

func (f secretForm) command(args ...string) *exec.Cmd {
	cmd := exec.Command(mustLookPath("loader"), append(args, f.args...)...)
	cmd.Env = append(os.Environ(), "LOADER_URL=")
	cmd.Env = append(cmd.Env, f.env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// TestSecretsAppearNowhere gives a password in every form and takes the command through its
// successes and failures: no output, record, session or process shows it.
func TestSecretsAppearNowhere(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		canary := loadertest.NewCanary()
		user := fmt.Sprintf("canary%d", os.Getpid())
		if !s.Cockroach { // after the database, which holds what the user made
			t.Cleanup(func() { loadertest.Exec(t, s.URL(), "DROP ROLE IF EXISTS "+user) })
		}
		db := s.NewDatabase(t)
		u, err := url.Parse(db)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Cockroach { // which, insecure, takes any password
			loadertest.Exec(t, db, fmt.Sprintf("CREATE ROLE %s SUPERUSER LOGIN PASSWORD %s", user, sqlText(canary.Password())))
			u.User = url.User(user)
		}
		loadertest.Exec(t, db, "CREATE TABLE bad (id TEXT PRIMARY KEY)", bankDDL, "INSERT INTO accounts VALUES (1, 1000000), (2, 1000000)")
		forms := secretForms(t, u, canary)
		page := filepath.Join(t.TempDir(), "page.html")
		for i, f := range forms {
			list := [][]string{
				{"points", "--n", "200", "--chunk", "50", "--echo", "--verbose"},
				{"points", "--n", "200", "--format", "json"},
				{"points", "--n", "5", "--table", "bad", "--verbose"},
				{"loads", "list"}, {"loads", "resume", "nosuchid"}, {"plan", "points", "--format", "json"},
				{"count", "points"}, {"points", "--nonsense"}, {"points", "--n", "x"},
				{"transfer", "--n", "2", "--echo", "--verbose"}, {"transfer", "--verify"}, {"transfer", "--table", "bad"},
				{"init", "--dry-run", "--user", u.User.Username()}, {"init", "--user", u.User.Username(), "--verbose", "--echo"},
				{"bench", "--n", "50", "--chunks", "50", "--via", "insert", "--count", "1", "--verbose", "--html", page},
			}
			brief := i > 0 && (s.Cockroach || !loadertest.Chaos) // the others differ in how the password is read
			if brief {
				list = list[2:3]
			}
			for _, args := range list {
				out, _ := f.command(args...).CombinedOutput()
				canary.Check(t, fmt.Sprintf("%s: the output of %q", f.name, args), string(out))
			}
			mangled := func(name, from, to string) {
				g := f
				g.args = append([]string(nil), f.args...)
				g.env = append([]string(nil), f.env...)
				for i := range g.args {
					g.args[i] = strings.ReplaceAll(g.args[i], from, to)
				}
				for i := range g.env {
					g.env[i] = strings.ReplaceAll(g.env[i], from, to)
				}
				out, err := g.command("points", "--n", "5", "--verbose", "--quiet").CombinedOutput()
				canary.Check(t, f.name+", "+name, string(out))
				if err != nil && strings.Count(string(out), "\n") != 1 {
					t.Errorf("%s, %s: more than a line: %s", f.name, name, strings.Map(letters, string(out)))
				}
			}
			mangled("another port", u.Port(), "1")
			if brief {
				continue
			}
			mangled("a port that is none", u.Port(), "x")
			mangled("another scheme", "postgres://", "mysql://")
			mangled("no encryption that there is", "sslmode=disable", "sslmode=verify-full")
			mangled("an sslmode that is none", "sslmode=disable", "sslmode=q")
			mangled("another host", "127.0.0.1", "db.invalid")
			mangled("nothing escaped", "%", "")
			mangled("half a quote", "'", "")
			mangled("another user", u.User.Username(), "nobody-of-that-name")
		}

		// What the loads left on the server.
		for _, table := range []string{"loads", "claims", "ledger", "moved", "rejects", "tuning", "indexes", "transfer_runs", "transfers"} {
			rows := loadertest.Value[string](t, db, "SELECT COALESCE(string_agg((x.*)::TEXT, ' '), '') FROM loader."+pgx.Identifier{table}.Sanitize()+" AS x")
			canary.Check(t, "loader."+table, rows)
		}
		if text, err := os.ReadFile(page); err != nil {
			t.Error(err)
		} else {
			canary.Check(t, "the page of bench", string(text))
		}
		// While one runs: its sessions, and the command lines of all processes.
		for i, f := range forms {
			if (s.Cockroach || !loadertest.Chaos) && i != 0 && f.name != "PGPASSWORD" {
				continue
			}
			proxy := loadertest.NewProxy(t, db, &loadertest.Fault{When: durable, Nth: 3, Do: loadertest.Delay, Delay: time.Second})
			g := f
			g.args, g.env = append([]string(nil), f.args...), append([]string(nil), f.env...)
			for _, list := range [][]string{g.args, g.env} {
				for i := range list {
					list[i] = strings.ReplaceAll(list[i], u.Port(), fmt.Sprint(proxy.Port()))
				}
			}
			cmd := g.command("points", "--n", "2000", "--chunk", "100", "--verbose")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { cmd.Wait(); close(ended) }()
			loadertest.Eventually(t, "a load that runs", func() bool {
				select {
				case <-ended:
					return true
				default:
					return proxy.Stats().Open > 0
				}
			})
			if !f.open {
				canary.Check(t, f.name+": the process list", processes(t))
			}
			q := "SELECT COALESCE(string_agg(concat(application_name, ' ', query), ' '), '') FROM pg_stat_activity"
			if s.Cockroach {
				q = "SELECT COALESCE(string_agg(concat(application_name, ' ', active_queries, ' ', last_active_query), ' '), '') FROM [SHOW CLUSTER SESSIONS]"
			}
			canary.Check(t, f.name+": the sessions", loadertest.Value[string](t, db, q))
			cmd.Process.Signal(os.Interrupt)
			<-ended
			canary.Check(t, f.name+": the output of a load that is stopped", out.String())
		}
	})
}

// TestSecretsOfAddresses reads a file at an address that holds a password or a signature:
// it is read, or refused, and nothing of that is said or recorded.
func TestSecretsOfAddresses(t *testing.T) {
	canary := loadertest.NewCanary()
	dir := t.TempDir()
	files := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(files.Close)
	authority := filepath.Join(dir, "authority.pem")
	for path, text := range map[string][]byte{
		authority: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: files.Certificate().Raw}), filepath.Join(dir, "in.csv"): []byte("1\n2\n"),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8)")
	p := canary.PlainPassword()
	signed, named := files.URL+"/in.csv?signature="+p, strings.Replace(files.URL, "://", "://user:"+p+"@", 1)+"/in.csv"
	for _, test := range []struct {
		code  int
		files []string
	}{
		{exitOK, []string{signed}},
		{exitData, []string{signed, signed}},
		{exitData, []string{strings.Replace(signed, "in.csv", "none.csv", 1)}},
		{exitData, []string{strings.Replace(signed, files.URL, "https://127.0.0.1:1", 1)}},
		{exitData, []string{named}},
		{exitData, []string{named, named}},
		{exitData, []string{named + "%zz"}},
		{exitData, []string{"s3://bucket/in.csv?AWS_SECRET_ACCESS_KEY=" + p}},
	} {
		cmd := command(url, append([]string{"csv", "--table", "t", "--columns", "id", "--verbose", "--echo"}, test.files...)...)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+authority)
		out, _ := cmd.CombinedOutput()
		said := strings.Map(letters, string(out))
		if canary.Check(t, "the output of csv", string(out)); len(canary.Find(string(out))) == 0 {
			said = string(out)
		}
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("%d files: exit code %d, want %d: %s", len(test.files), code, test.code, said)
		}
	}
	canary.Check(t, "loader.loads", loadertest.Value[string](t, url, "SELECT string_agg((x.*)::TEXT, ' ') FROM loader.loads AS x"))
}

// letters leaves what cannot be a password's word out of a message.
func letters(r rune) rune {
	if r == '\n' || r == ' ' || r == ':' {
		return r
	}
	return 'x'
}

// sqlText returns a text as a literal.
func sqlText(s string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// processes returns the command lines of all processes; nothing where /proc is not there.
func processes(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, path := range list {
		b, _ := os.ReadFile(path)
		all = append(all, strings.ReplaceAll(string(b), "\x00", " "))
	}
	return strings.Join(all, "\n")
}
