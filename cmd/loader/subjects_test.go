package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// A subject is what the command is killed and stopped in: one kind of rows, committed and
// carried one way.
type subject struct {
	kind, way, via string
	table, ddl     string
	keyless        bool // nothing can be compared row by row but by the ledger
	args           []string
	n, rejects     int64
}

func (s subject) String() string {
	kind := s.kind
	if s.keyless {
		kind += " without a key"
	}
	return kind + " by " + s.way + " and " + s.via
}

// rowsOf matches the statements that carry rows, or change accounts.
var rowsOf = loadertest.Match{SQL: `(INSERT INTO|COPY|UPDATE) .*(points|accounts|bare|keyed|filled)`, Kind: loadertest.MsgStatement}

// subjects returns what can be loaded into a server, n rows each, by kind.
func subjects(t *testing.T, s loadertest.Server, n int64) map[string][]subject {
	t.Helper()
	dir := t.TempDir()
	var good, bad strings.Builder
	var rejects int64
	for i := range n {
		fmt.Fprintf(&good, "%d,\"row\n%d\"\n", i, i)
		if fmt.Fprintf(&bad, "%d,\"row\n%d\"\n", i, i); i%(n/20) == 0 {
			fmt.Fprintf(&bad, "x%d,bad\n", i)
			rejects++
		}
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goodFile, badFile := file("good.csv", good.String()), file("bad.csv", bad.String())
	csv := func(path string, more ...string) []string {
		return append([]string{"csv", path, "--columns", "id,s", "--table"}, more...)
	}
	rows := fmt.Sprint(n)
	const (
		points   = "CREATE TABLE IF NOT EXISTS points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)"
		accounts = "CREATE TABLE IF NOT EXISTS accounts (id INT8 PRIMARY KEY, balance INT8)"
		keyless  = "CREATE TABLE IF NOT EXISTS bare (id INT8, s TEXT)"
		keyed    = "CREATE TABLE IF NOT EXISTS keyed (id INT8 PRIMARY KEY, s TEXT)"
	)
	list := map[string][]subject{}
	for _, via := range []string{"insert", "copy"} {
		list["points"] = append(list["points"], subject{kind: "points", way: "transaction", via: via, table: "points", ddl: points, args: []string{"points", "--n", rows}, n: n})
		list["accounts"] = append(list["accounts"], subject{kind: "accounts", way: "transaction", via: via, table: "accounts", ddl: accounts, args: []string{"accounts", "--n", rows}, n: n})
		list["csv"] = append(list["csv"], subject{kind: "csv", way: "transaction", via: via, table: "bare", ddl: keyless, keyless: true, args: csv(goodFile, "bare"), n: n})
		if via == "copy" && s.Cockroach {
			continue // a COPY outside a transaction is not atomic there
		}
		list["points"] = append(list["points"], subject{kind: "points", way: "statement", via: via, table: "points", ddl: points, args: []string{"points", "--n", rows}, n: n})
		list["csv"] = append(list["csv"], subject{kind: "csv", way: "statement", via: via, table: "keyed", ddl: keyed, args: csv(goodFile, "keyed"), n: n})
	}
	filled := subject{kind: "rows", way: "transaction", via: "insert", table: "filled", n: n,
		ddl:  "CREATE TABLE IF NOT EXISTS filled (id INT8 PRIMARY KEY, email TEXT NOT NULL UNIQUE, price NUMERIC(8,2), created_at TIMESTAMPTZ)",
		args: []string{"rows", "--table", "filled", "--n", rows}}
	list["rows"] = []subject{filled}
	filled.way = "statement"
	if list["rows"] = append(list["rows"], filled); !s.Cockroach {
		filled.way, filled.via = "transaction", "copy"
		list["rows"] = append(list["rows"], filled)
	}
	rejecting := subject{kind: "csv with rejects", way: "transaction", via: "insert", table: "bare", ddl: keyless, keyless: true, n: n, rejects: rejects}
	rejecting.args = append(csv(badFile, "bare"), "--max-errors", fmt.Sprint(rejects), "--rejects", filepath.Join(dir, "out"))
	list["csv"] = append(list["csv"], rejecting)
	return list
}

// command returns the arguments that load the subject.
func (s subject) command(more ...string) []string {
	return append(append([]string(nil), s.args...), append(more, "--commit", s.way, "--via", s.via)...)
}

// resume returns the arguments that go on with a load of the subject.
func (s subject) resume(id string, more ...string) []string {
	args := append([]string{"loads", "resume", id}, more...)
	if i := len(s.args) - 1; s.rejects > 0 {
		args = append(args, s.args[i-1:]...) // where the rejects go is said to each run
	}
	return args
}

// done is the exit code of a load that is complete.
func (s subject) done() int {
	if s.rejects > 0 {
		return exitRejected
	}
	return exitOK
}

// fresh makes the subject's table, or empties it.
func (s subject) fresh(t *testing.T, url string) {
	t.Helper()
	loadertest.Exec(t, url, s.ddl, "DELETE FROM "+s.table)
}

// entered returns the id of the newest load, if there are more than before.
func entered(t *testing.T, url string, before int64) (id string, n int64) {
	t.Helper()
	const query = "SELECT count(*) || ' ' || COALESCE((SELECT id FROM loader.loads ORDER BY created_at DESC LIMIT 1), '') FROM loader.loads"
	if _, err := fmt.Sscan(loadertest.Value[string](t, url, query), &n, &id); err != nil && n > 0 {
		t.Fatal(err)
	}
	if n == before {
		id = ""
	}
	return id, n
}

// check fails the test unless the load is complete and all of its table: each row is
// there once, the registry is settled, and a further run changes nothing.
func (s subject) check(t *testing.T, url, id string) {
	t.Helper()
	if state := loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", id); state != "done" {
		t.Errorf("%s: the load is %s", s, state)
	}
	s.checkRows(t, url)
	if !s.keyless {
		if out := mustRun(t, url, "loads", "verify", id); !strings.Contains(out, ", 0 missing") {
			t.Errorf("%s: verify says %s", s, out)
		}
	}
	checkSettled(t, url)
	if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.rejects WHERE load = $1", id); n != s.rejects {
		t.Errorf("%s: %d rejects are recorded, want %d", s, n, s.rejects)
	}
	if s.rejects > 0 {
		path := s.args[len(s.args)-1] + ".rejects.csv"
		list, err := os.ReadFile(path)
		if n := strings.Count(string(list), "bad\n"); err != nil || int64(n) != s.rejects {
			t.Errorf("%s: the file of rejects has %d records, %v; want %d", s, n, err, s.rejects)
		}
	}
	out := runTo(t, s.done(), command(url, s.resume(id, "--format", "json")...))
	var further struct {
		Rows *int64 `json:"rows_this_run"`
	}
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &further); err != nil || further.Rows == nil || *further.Rows != 0 {
		t.Errorf("%s: a further run says %s", s, out)
	}
	s.checkRows(t, url)
	if t.Failed() {
		t.FailNow()
	}
}

// checkRows fails the test unless the table has n rows, each with its own key, and those
// of a file as they stand there.
func (s subject) checkRows(t *testing.T, url string) {
	t.Helper()
	if s.args[0] != "csv" {
		got := loadertest.Value[string](t, url, "SELECT count(*) || ' ' || count(DISTINCT id) FROM "+s.table)
		if want := fmt.Sprint(s.n, " ", s.n); got != want {
			t.Errorf("%s: rows and keys are %s, want %s", s, got, want)
		}
		return
	}
	loadertest.CheckTable(t, url, loadertest.Table{Name: pgx.Identifier{s.table}, Columns: []string{"s"}}, func(yield func(int64, []any) bool) {
		for i := range s.n {
			if !yield(i, []any{fmt.Sprintf("row\n%d", i)}) {
				return
			}
		}
	})
}

// checkSettled fails the test if complete loads have left something in the registry.
func checkSettled(t *testing.T, url string) {
	t.Helper()
	for _, table := range []string{"claims", "ledger"} {
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader."+table); n != 0 {
			t.Errorf("%d rows are left in loader.%s after a complete load", n, table)
		}
	}
}
