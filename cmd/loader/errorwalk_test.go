package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// kindCodes are the exit codes of the kinds of testdata/errors.tsv.
var kindCodes = map[string]int{
	"usage": exitUsage, "data": exitData, "target": exitTarget, "stopped": exitStopped, "unconfirmed": exitUnconfirmed,
	"refused": exitRefused, "rejected": exitRejected, "fault": exitFault,
}

// A walkStep is a failure that a user meets, and what leads on from it.
type walkStep struct {
	name string
	// before are commands that come first, whatever their end; sql: is a statement, write: a
	// file and its text, touch: a file that is written to.
	before []string
	args   string // of the command that fails, in its directory
	code   int
	says   string // regular expression on what it says
	// next is the command that leads on: its arguments, or, where it begins with "says ", the
	// part in parentheses of what was said. Empty: nothing leads on.
	next     string
	nextCode int
}

const (
	accountsTable = "sql: CREATE TABLE accounts (id INT8 PRIMARY KEY, balance INT8)"
	okFile        = "write: ok.csv id,v\n1,a\n2,b\n3,c\n"
	badText       = "write: bad.csv id,v\n1,a\nx,b\n3,c\n"
	ofHint        = `says (?m)^(?:go on|resume) with: (loader .*?)(?: --url ….*)?$`
)

// stopped makes a load of part.csv into t of which a part is in, and which has ended at a bad
// record.
var stopped = []string{"write: part.csv id,v\n1,a\n2,b\nx,c\n4,d\n", "loader csv part.csv --table t --chunk 1 --workers 1 --order file"}

// walk are the steps.
var walk = []walkStep{
	{name: "no command", args: "pionts", code: exitUsage, says: `no command "pionts"; loader --help lists them`, next: "says (loader --help)"},
	{name: "no value", args: "points --n", code: exitUsage, says: "--n needs a value", next: "points --n 10"},
	{name: "number", args: "points --n ten", code: exitUsage, says: `--n takes a whole number from 1 to \d+, not "ten"`, next: "points --n 10"},
	{name: "seed", args: "points --n 10 --seed x", code: exitUsage, says: "--seed takes a whole number", next: "points --n 10 --seed 1"},
	{name: "format", args: "points --n 10 --format xml", code: exitUsage, says: "--format is text or json", next: "points --n 10 --format json"},
	{name: "share", before: []string{okFile}, args: "csv ok.csv --table t --max-errors 200%", code: exitUsage, says: "--max-errors takes a share from 0% to 100%", next: "csv ok.csv --table t --max-errors 20%"},
	{name: "no table named", before: []string{okFile}, args: "csv ok.csv", code: exitUsage, says: "csv needs --table", next: "csv ok.csv --table t"},
	{name: "no file named", before: []string{okFile}, args: "csv --table t", code: exitUsage, says: "csv needs file names", next: "csv ok.csv --table t"},
	{name: "no id", args: "loads show", code: exitUsage, says: "needs the id of one load", before: []string{"loader points --n 1"}, next: "says (loader loads list)"},
	{name: "no loads command", args: "loads shwo", code: exitUsage, says: `loads has no command "shwo"; it has list, show`, before: []string{"loader points --n 1"}, next: "loads list"},
	{name: "plan alone", args: "plan", code: exitUsage, says: "plan takes a load command: plan points", next: "plan points"},
	{name: "empty value", args: "points --n 10 --out=", code: exitUsage, says: "--out is empty: give it a value, or leave the flag out", next: "points --n 10"},
	{name: "time without a unit", args: "points --n 10 --chunk-timeout 5", code: exitUsage, says: `--chunk-timeout takes a time such as 30s or 5m, not "5"`, next: "points --n 10 --chunk-timeout 5s"},
	{name: "no accounts", args: "transfer --table mine", code: exitTarget, says: `(?s)(loader accounts --n 100 --table mine) creates and fills it.*no such table: mine`, next: "says (loader accounts --n 100 --table mine)"},
	{name: "list of one", before: []string{"loader points --n 1"}, args: "loads list $ID", code: exitUsage, says: `loads list takes no argument "\w+"; (loads show) takes an id`, next: "loads show $ID"},
	{name: "plan of files", args: "plan points --n 10 --out x.csv", code: exitUsage, says: "leave out plan or --out", next: "points --n 10 --out x.csv"},
	{name: "files' flag", before: []string{"loader points --n 1"}, args: "loads resume $ID --max-errors 1", code: exitUsage, says: "--max-errors is for loads of files, and load .* is one of points; leave it out", next: "loads resume $ID"},
	{name: "handoff on resume", before: []string{"loader points --n 1"}, args: "loads resume $ID --streams 3", code: exitUsage, says: "was begun in chunks: --handoff", next: "loads resume $ID"},
	{name: "handoff to PostgreSQL", args: "points --n 10 --handoff upload", code: exitUsage, says: "are for IMPORT, .*leave them out", next: "points --n 10"},
	{name: "no registry", args: "loads list", code: exitRefused, says: "loader has loaded nothing into"},
	{name: "no load", before: []string{"loader points --n 1"}, args: "loads resume nosuchid", code: exitRefused, says: "no such load: nosuchid; ", next: "says (loader loads list)"},
	{name: "no table", before: []string{okFile, "sql: DROP TABLE t"}, args: "csv ok.csv --table t", code: exitTarget, says: "no such table: t in database [a-z0-9]+; (--create-table) creates it", next: "csv ok.csv --table t --create-table"},
	{name: "no file", before: []string{okFile}, args: "csv nothing*.csv --table t", code: exitData, says: `nothing\*\.csv: matches no file`, next: "csv ok*.csv --table t"},
	{name: "directory", before: []string{okFile}, args: "csv . --table t", code: exitData, says: `is a directory; name its files, or a pattern such as .*\*\.csv`, next: "csv *.csv --table t"},
	{name: "named twice", before: []string{okFile}, args: "csv ok.csv ./ok.csv --table t", code: exitData, says: "is named twice", next: "csv ok.csv --table t"},
	{name: "link", before: []string{okFile, "link: other.csv ok.csv"}, args: "csv ok.csv other.csv --table t", code: exitData, says: "other.csv: is the same file as .*ok.csv; name it once", next: "csv ok.csv --table t"},
	{name: "encoding", before: []string{"write: latin.csv id,v\n1,caf\xe9\n"}, args: "csv latin.csv --table t", code: exitData, says: `is not UTF-8: byte 10, in line 2, is 0xe9; name its encoding: (--encoding latin1) reads "café"`, next: "csv latin.csv --table t --encoding latin1"},
	{name: "statement and errors", before: []string{okFile}, args: "csv ok.csv --table t --commit statement --max-errors 1", code: exitUsage, says: "--on-conflict and --max-errors need --commit transaction", next: "csv ok.csv --table t --commit transaction --max-errors 1"},
	{name: "copy and set", before: []string{okFile}, args: "csv ok.csv --table t --via copy --on-conflict skip", code: exitUsage, says: "use --via insert", next: "csv ok.csv --table t --via insert --on-conflict skip"},
	{name: "errors without registry", before: []string{okFile}, args: "csv ok.csv --table t --max-errors 1 --no-registry", code: exitUsage, says: "cannot be used with --no-registry", next: "csv ok.csv --table t --max-errors 1"},
	{name: "defer without registry", before: []string{okFile}, args: "csv ok.csv --table t --indexes defer --no-registry", code: exitUsage, says: "--no-registry", next: "csv ok.csv --table t --no-registry"},
	{name: "another's schema", before: []string{"sql: CREATE SCHEMA loader", "sql: CREATE TABLE loader.mine (id INT8)"}, args: "points --n 10", code: exitTarget, says: "is not loader's: it holds mine, and is left alone; (--no-registry)", next: "points --n 10 --no-registry"},
	{name: "read-only session", before: []string{okFile, "loader points --n 1"}, args: "csv ok.csv --table t --url $READONLY", code: exitTarget, says: "(?s)read-only transaction.*the session is read-only: ", next: "csv ok.csv --table t"},
	{name: "mistyped URL", args: "points --n 10 --url postgres://u:a@SECRET@localhost/x", code: exitUsage, says: "there are several @ before the host; .*write @ as %40", next: "points --n 10"},

	{name: "width", before: []string{"write: w.csv id,v\n1,a\n2\n3,c\n"}, args: "csv w.csv --table t", code: exitData, says: "w.csv:3: 1 field instead of 2", next: ofHint, nextCode: exitRejected},
	{name: "bad record", before: []string{badText}, args: "csv bad.csv --table t", code: exitData, says: "bad.csv:3: ", next: ofHint, nextCode: exitRejected},
	{name: "duplicate", before: []string{"write: d.csv id,v\n1,a\n2,b\n1,c\n"}, args: "csv d.csv --table t", code: exitData, says: `d.csv:4: .*duplicate key`, next: ofHint, nextCode: exitRejected},
	{name: "too many bad records", before: []string{"write: b.csv id,v\n1,a\nx,b\ny,c\n4,d\n"}, args: "csv b.csv --table t --max-errors 1", code: exitData, says: "2 bad records are more than --max-errors 1 allows", next: ofHint, nextCode: exitRejected},
	{name: "long record", before: []string{"write: l.csv id,v\n1,a\n2," + strings.Repeat("x", 100) + "\n"}, args: "csv l.csv --table t --max-record-bytes 50", code: exitData, says: `l.csv:3: a record of more than 50 bytes \(--max-record-bytes\)`, next: ofHint, nextCode: exitRejected},
	{name: "rejects without a place", before: []string{badText}, args: "csv bad.csv --table t --max-errors 1 --rejects none/x", code: exitUsage, says: `--rejects none/x: the rejects cannot be written there: no such file`, next: "csv bad.csv --table t --max-errors 1 --rejects x", nextCode: exitRejected},
	{name: "rejects", before: []string{badText}, args: "csv bad.csv --table t --max-errors 1", code: exitRejected, says: `rejects: (bad-\w+\.rejects\.csv)`},
	{name: "bad record by statement", before: []string{badText}, args: "csv bad.csv --table t --commit statement", code: exitData, says: "bad.csv:3: ", next: "says (loader loads cancel \\w+ --remove-rows)"},
	{name: "unfinished", before: stopped, args: "csv part.csv --table t", code: exitUsage, says: "is unfinished and has loaded rows; resume it with: ", next: "says (loader loads cancel \\w+ --remove-rows)"},
	{name: "verify too early", before: stopped, args: "loads verify $ID", code: exitUnconfirmed, says: "the load is not complete: .* has \\d+ of \\d+ bytes; resume it with: ", next: "loads resume $ID --max-errors 1", nextCode: exitRejected},
	{name: "changed file", before: append(append([]string{}, stopped...), "write: part.csv id,v\n1,z\n2,b\n3,c\n4,d\n"), args: "loads resume $ID", code: exitRefused,
		says: "the file has changed since the load began: the loaded lines 2 to 2 are missing or changed", next: "loads cancel $ID"},
	{name: "mended file", before: append(append([]string{}, stopped...), "write: part.csv id,v\n1,a\n2,b\n3,c\n4,d\n"), args: "loads resume $ID", code: exitOK, says: "loaded 2 rows"},
	{name: "other commit mode", before: []string{stopped[0], stopped[1] + " --commit transaction"}, args: "loads resume $ID --commit statement", code: exitTarget, says: "was begun with (--commit transaction), which cannot be changed", next: "loads resume $ID --commit transaction --max-errors 1", nextCode: exitRejected},
	{name: "cancelled", before: append(append([]string{}, stopped...), "loader loads cancel $ID"), args: "loads resume $ID", code: exitRefused, says: "the load was cancelled: ", next: "says (loader loads cancel \\w+ --remove-rows)"},
	{name: "rows that stay", before: append(append([]string{}, stopped...), "sql: CREATE TABLE child (id INT8 REFERENCES t (id) ON DELETE CASCADE)"), args: "loads cancel $ID --remove-rows", code: exitRefused,
		says: "its rows cannot be removed: the foreign key .*; nothing was changed", next: "loads cancel $ID"},
	{name: "pause of nothing", before: []string{"loader points --n 1"}, args: "loads pause $ID", code: exitTarget, says: "has no running IMPORT job; only IMPORT jobs can be paused"},
	{name: "no sslmode", args: "points --n 10 --url postgres://u@db.invalid/x", code: exitUsage, says: "the URL has no sslmode; add sslmode=verify-full&sslrootcert=FILE, or sslmode=disable", next: "points --n 10"},
	{name: "no URL", args: "points --n 10 --url nonsense", code: exitUsage, says: `neither a URL \(postgres://user@host:port/database\) nor key=value pairs`, next: "points --n 10"},
	{name: "scheme", args: "points --n 10 --url mysql://h/x", code: exitUsage, says: "unknown scheme mysql; use postgres://, postgresql:// or cockroachdb://", next: "points --n 10"},
	{name: "empty environment", args: "points --n 10 --url env", code: exitUsage, says: "--url env, but neither DATABASE_URL nor PGHOST is set", next: "points --n 10"},
	{name: "table name", before: []string{okFile}, args: "csv ok.csv --table a..b", code: exitUsage, says: `table name "a..b": .*; write table, schema.table, or "any name" in double quotes`, next: "csv ok.csv --table public.t"},
	{name: "no account", before: []string{accountsTable}, args: "transfer", code: exitData, says: "a transfer needs two accounts: .*accounts is empty; (loader accounts) fills it", next: "says (loader accounts)"},
	{name: "one account", before: []string{accountsTable, "sql: INSERT INTO accounts VALUES (1, 100)"}, args: "transfer", code: exitData, says: "has only one, id 1; (loader accounts) adds more", next: "says (loader accounts)"},
	{name: "poor accounts", before: []string{accountsTable, "sql: INSERT INTO accounts VALUES (1, 0), (2, 1)"}, args: "transfer", code: exitData, says: "insufficient funds: .*had a balance of 2 or more"},
	{name: "changed balances", before: []string{"loader accounts --n 10", "loader transfer --n 3", "sql: UPDATE accounts SET balance = balance + 1"}, args: "transfer --verify", code: exitUnconfirmed, says: "do not follow from their transfers"},
	{name: "bench sizes", args: "bench --chunks x", code: exitUsage, says: `--chunks takes auto, or comma-separated whole numbers from 1 to \d+, not "x"`, next: "bench --n 100 --chunks 10 --count 1 --via insert --workers 1"},
	{name: "budget", args: "bench --n 100 --chunks 10 --count 1 --via insert --workers 1 --budget 1ns", code: exitUsage, says: `use fewer rows \(--n\) or a longer --budget`, next: "bench --n 100 --chunks 10 --count 1 --via insert --workers 1 --budget 1m"},
	{name: "changed rows", before: []string{"loader points --n 10", "sql: UPDATE points SET x = 5000"}, args: "loads verify $ID", code: exitUnconfirmed, says: "verification failed: the first row that differs is row 0"},
}

// TestWalk meets the failures one by one: the exit code is that of their kind, one line says
// what and where, and what leads on is typed and leads to the end.
func TestWalk(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, r := range errorRows(t) {
			for _, step := range allSteps() {
				if want, ok := kindCodes[r.kind]; r.walk == step.name && ok && step.code != want {
					t.Errorf("%s: exit code %d, but %s: %s is of kind %s", step.name, step.code, r.pkg, r.text, r.kind)
				}
			}
		}
		url := s.NewDatabase(t)
		for i, step := range walk {
			if loadertest.Chaos || i%8 == 0 { // all of them take their time
				if s.Cockroach { // which drops tables slowly
					url = s.NewDatabase(t)
				}
				if s.Cockroach && step.name == "bad record by statement" { // statements set bad records aside there
					step.next, step.nextCode = "says (loader loads resume \\w+ --max-errors 100)", exitRejected
				}
				step.take(t, url)
			}
		}
	})
}

// take makes the step in a directory of its own, from an empty database on.
func (w walkStep) take(t *testing.T, url string) {
	t.Helper()
	if loadertest.Value[int64](t, url, "SELECT count(*) FROM information_schema.tables WHERE table_schema IN ('public', 'loader')") > 0 {
		loadertest.Exec(t, url, "DROP SCHEMA IF EXISTS loader CASCADE", "DROP TABLE IF EXISTS child", "DROP TABLE IF EXISTS t", "DROP TABLE IF EXISTS points", "DROP TABLE IF EXISTS accounts", "DROP TABLE IF EXISTS mine")
	}
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
	p := newPlace(t)
	id := ""
	run := func(line string) (string, int) {
		line = strings.NewReplacer("$ID", id, "$READONLY", url+"&options=-c%20default_transaction_read_only%3Don").Replace(line)
		cmd := p.command(url, "sh", "-c", `exec "$@"`, "sh")
		cmd.Args = append(cmd.Args, expandArgs(p.tmp, line)...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, b := range w.before {
		what, rest, _ := strings.Cut(b, " ")
		var err error
		switch what {
		case "sql:":
			loadertest.Exec(t, url, rest)
		case "write:":
			name, text, _ := strings.Cut(rest, " ")
			err = os.WriteFile(filepath.Join(p.tmp, name), []byte(text), 0o600)
		case "link:":
			name, old, _ := strings.Cut(rest, " ")
			err = os.Link(filepath.Join(p.tmp, old), filepath.Join(p.tmp, name))
		default:
			run(b)
			if id == "" {
				id = loadertest.Value[string](t, url, "SELECT id FROM loader.loads ORDER BY created_at DESC LIMIT 1")
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	said, code := run("loader " + w.args)
	if code != w.code || !regexp.MustCompile(w.says).MatchString(said) {
		t.Errorf("%s: loader %s: exit code %d, want %d: %s, want %q", w.name, w.args, code, w.code, said, w.says)
		return
	}
	if n := strings.Count("\n"+said, "\nloader: "); n != 1 && w.code != exitOK {
		t.Errorf("%s: %d lines say what it is: %s", w.name, n, said)
	}
	if strings.Contains(said, "SECRET") {
		t.Errorf("%s: it shows the password: %s", w.name, said)
	}
	next := w.next
	if pattern, ok := strings.CutPrefix(next, "says "); ok {
		m := regexp.MustCompile(pattern).FindStringSubmatch(said)
		if m == nil {
			t.Errorf("%s: nothing leads on: %s", w.name, said)
			return
		}
		next = m[1]
	} else if next != "" {
		next = "loader " + next
	}
	if next == "" {
		return
	}
	if out, code := run(next); code != w.nextCode {
		t.Errorf("%s: what leads on, %q, ends with exit code %d, want %d: %s", w.name, next, code, w.nextCode, out)
	}
}

// expandArgs splits a line into words, with the names of files in dir for patterns.
func expandArgs(dir, line string) []string {
	var list []string
	for _, word := range strings.Fields(line) {
		if found, _ := filepath.Glob(filepath.Join(dir, word)); strings.Contains(word, "*") && len(found) > 0 {
			list = append(list, found...)
			continue
		}
		list = append(list, word)
	}
	return list
}
