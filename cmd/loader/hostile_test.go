package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// hostileNames are names of tables and columns that are SQL, formats, or long.
var hostileNames = []string{
	`ev"il; drop table p; --`, `'); DROP TABLE p; --`, `точка ☃`, `select`, `%s%n$1`, `back\slash`, `"`, "ta\tb\x1b[31m",
	strings.Repeat("n", 63), strings.Repeat("ñ", 40), strings.Repeat("x", 64) + "y",
}

// quoted returns a name as SQL and --table take it.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// TestHostileNames loads into tables, and from headers, whose names are attacks: the rows
// arrive, or the name is refused, and nothing of it is executed.
func TestHostileNames(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		db := s.NewDatabase(t)
		loadertest.Exec(t, db, "CREATE TABLE p (id INT8 PRIMARY KEY)", "INSERT INTO p VALUES (1), (2)")
		names := hostileNames
		if !loadertest.Chaos {
			names = []string{names[0], names[2], names[7], names[10]}
		}
		for i, name := range names {
			path := t.TempDir() + "/in.csv"
			field := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
			if err := os.WriteFile(path, []byte("id,"+field+"\n1,\"'); DROP TABLE p; --\"\n2,x\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			table := "t" + fmt.Sprint(i) + name
			list := [][]string{
				{"csv", path, "--create-table", "--key", "id", "--header", "yes", "--table", quoted(table)},
				{"count", "--table", quoted(table)},
				{"plan", "csv", path, "--header", "yes", "--table", quoted(table)},
				{"points", "--n", "10", "--table", quoted("p" + table)},
				{"csv", path, "--table", "none", "--map", name + "=" + name},
				{"accounts", "--n", "5", "--table", quoted("a" + table)},
				{"transfer", "--table", quoted("a" + table)},
				{"transfer", "--verify", "--table", quoted("a" + table)},
				{"init", "--dry-run", "--database", "d" + name, "--user", "u" + name},
			}
			if loadertest.Chaos || i == 0 {
				list = append(list, []string{"init", "--database", "d" + name, "--user", "u" + name})
				made(t, s, "d"+name, "u"+name)
			}
			for _, args := range list {
				out, err := command(db, args...).CombinedOutput()
				var exit *exec.ExitError
				if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitTarget && exit.ExitCode() != exitUsage && exit.ExitCode() != exitData) {
					t.Errorf("%q: %v\n%s", args, err, out)
				}
				if i := strings.IndexFunc(string(out), hidden); i >= 0 {
					t.Errorf("%q prints the control character %q", args, out[i])
				}
				if args[0] == "csv" && err == nil {
					got := loadertest.Value[string](t, db, fmt.Sprintf("SELECT string_agg(%s, '|' ORDER BY id) FROM %s", quoted(stored(name, s)), quoted(stored(table, s))))
					if got != "'); DROP TABLE p; --|x" {
						t.Errorf("%q: the table has %q", args, got)
					}
				}
				if args[0] == "init" && args[1] != "--dry-run" && err == nil {
					const query = "SELECT count(*) FROM pg_catalog.pg_database AS d, pg_catalog.pg_roles AS r WHERE d.datname = $1 AND r.rolname = $2"
					if n := loadertest.Value[int64](t, db, query, stored("d"+name, s), stored("u"+name, s)); n != 1 {
						t.Errorf("%q: the database or the user has another name, or is not there", args)
					}
				}
				// CockroachDB has rules for the names of users.
				if len(name) <= 60 && err != nil && args[0] != "csv" && (args[0] != "init" || !s.Cockroach) {
					t.Errorf("%q is refused: %s", args, out)
				}
			}
		}
		if n := loadertest.Value[int64](t, db, "SELECT count(*) FROM p"); n != 2 {
			t.Errorf("table p has %d rows, want 2", n)
		}
	})
}

// made drops at the end of the test what init has made.
func made(t *testing.T, s loadertest.Server, database, user string) {
	t.Cleanup(func() {
		loadertest.Exec(t, s.URL(), "DROP DATABASE IF EXISTS "+quoted(stored(database, s)))
		user := stored(user, s)
		if loadertest.Value[bool](t, s.URL(), "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1)", user) { // else it may be no name that can be dropped
			loadertest.Exec(t, s.URL(), "DROP ROLE "+quoted(user))
		}
	})
}

// stored returns a name as the server keeps it.
func stored(name string, s loadertest.Server) string {
	for !s.Cockroach && len(name) > 63 {
		_, last := len(name), []rune(name)
		name = string(last[:len(last)-1])
	}
	return name
}

// TestHostileURLs gives URLs whose parts are attacks. Each is refused in one line, or
// reaches the server as a value.
func TestHostileURLs(t *testing.T) {
	pg := loadertest.PostgreSQLServer(t)
	db := pg.NewDatabase(t)
	loadertest.Exec(t, db, "CREATE TABLE p (id INT8 PRIMARY KEY)", "INSERT INTO p VALUES (1), (2)")
	u, err := url.Parse(db)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*url.URL)) string {
		c := *u
		change(&c)
		return c.String()
	}
	query := func(text string) string {
		return with(func(u *url.URL) { u.RawQuery += "&" + text })
	}
	for _, text := range []string{
		with(func(u *url.URL) { u.Path = `/x"; DROP TABLE p; --` }),
		with(func(u *url.URL) { u.User = url.UserPassword(`u"; DROP TABLE p; --`, "x") }),
		with(func(u *url.URL) { u.Host = "127.0.0.1:99999" }),
		with(func(u *url.URL) { u.Host = "%0d%0a%1b[31m:5432" }),
		query("application_name=%27%3B+DROP+TABLE+p%3B+--"),
		query("search_path=%22%3B+DROP+TABLE+p%3B+--"),
		query("options=-c%20statement_timeout=0%3B%20DROP%20TABLE%20p"),
		query("statement_timeout=0%3BDROP%20TABLE%20p"),
		query("sslmode=%1b[31m"), query("connect_timeout=-1"), query("nonsense=1"), query("servicefile=/etc/passwd&service=root"),
		"postgres://", "postgres://:@:/?", "postgres://[::1", "postgres://\x00", "://", "=", "host=", "host='", "host=a port=0", "postgres://h/d?%zz",
		"postgresql:///" + strings.Repeat("a", 100_000), "cockroachdb://cockroachdb://x", "file:///etc/passwd", "jdbc:postgresql://x/y", "http://127.0.0.1:1/",
	} {
		cmd := exec.Command(mustLookPath("loader"), "points", "--n", "5", "--quiet", "--url="+text)
		if strings.ContainsRune(text, 0) {
			continue // no command line holds that; FuzzParse does
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitTarget && exit.ExitCode() != exitUsage) {
			t.Errorf("%.200q: %v\n%.500s", text, err, out)
		}
		if err != nil && strings.Count(string(out), "\n") != 1 {
			t.Errorf("%.200q says more than a line: %.500q", text, out)
		}
		if i := strings.IndexFunc(string(out), hidden); i >= 0 {
			t.Errorf("%.200q prints the control character %q", text, out[i])
		}
	}
	if n := loadertest.Value[int64](t, db, "SELECT count(*) FROM p"); n != 2 {
		t.Errorf("table p has %d rows, want 2", n)
	}
}
