package main

import (
	"slices"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// usageSteps are command lines that contradict themselves, and what takes their place.
var usageSteps = []walkStep{
	{name: "value of one character", before: []string{okFile}, args: "csv ok.csv --table t --delimiter ab", code: exitUsage, says: `--delimiter takes one ASCII character except NUL, CR and LF, such as ; or tab`, next: "csv ok.csv --table t --delimiter ,"},
	{name: "unknown flag", args: "points --rows 5", code: exitUsage, says: `-rows is not a flag of loader points; (loader points --help) lists its flags`, next: "says (loader points --help)"},
	{name: "commit mode's name", before: []string{okFile}, args: "csv ok.csv --table t --commit ledger", code: exitUsage, says: "--commit is auto, statement or transaction", next: "csv ok.csv --table t --commit transaction"},
	{name: "form's name", before: []string{okFile}, args: "csv ok.csv --table t --format tsv", code: exitUsage, says: "--format is csv, text", next: "csv ok.csv --table t --format csv"},
	{name: "quotes of text", before: []string{okFile}, args: "csv ok.csv --table t --format text --quote x", code: exitUsage, says: "it cannot be used with --quote or --escape", next: "csv ok.csv --table t --format csv --header yes"},
	{name: "header's name", before: []string{okFile}, args: "csv ok.csv --table t --header maybe", code: exitUsage, says: "--header is auto, yes or no", next: "csv ok.csv --table t --header yes"},
	{name: "indexes' name", before: []string{okFile}, args: "csv ok.csv --table t --indexes drop", code: exitUsage, says: "--indexes is keep or defer", next: "csv ok.csv --table t --indexes defer"},
	{name: "map", before: []string{okFile}, args: "csv ok.csv --table t --map v", code: exitUsage, says: "--map takes FIELD=COLUMN", next: "csv ok.csv --table t --map v=v"},
	{name: "set", before: []string{okFile}, args: "csv ok.csv --table t --set v", code: exitUsage, says: "--set takes NAME=VALUE", next: "csv ok.csv --table t --map v= --set v='x'"},
	{name: "nulls", args: "rows --table t --n 5 --nulls 200%", code: exitUsage, says: "--nulls takes a share from 0% to 100%", next: "rows --table t --n 5 --nulls 20%"},
	{name: "conflict's name", before: []string{okFile}, args: "csv ok.csv --table t --on-conflict ignore", code: exitUsage, says: "--on-conflict is fail, skip or update", next: "csv ok.csv --table t --on-conflict skip"},
	{name: "order's name", before: []string{okFile}, args: "csv ok.csv --table t --order key", code: exitUsage, says: "--order is auto or file", next: "csv ok.csv --table t --order file"},
	{name: "rate", args: "points --n 5 --rate banana", code: exitUsage, says: "--rate takes rows per second, from 1 on", next: "points --n 5 --rate 1000"},
	{name: "rejects alone", before: []string{okFile}, args: "csv ok.csv --table t --rejects x", code: exitUsage, says: "--rejects needs --max-errors N or N%", next: "csv ok.csv --table t --max-errors 1 --rejects x"},
	{name: "saved nowhere", args: "bench --n 100 --chunks 10 --save --no-registry", code: exitUsage, says: "cannot be used with --no-registry", next: "bench --n 100 --chunks 10 --count 1 --via insert --workers 1 --save"},
	{name: "short records' name", before: []string{okFile}, args: "csv ok.csv --table t --short-rows drop", code: exitUsage, says: "--short-rows is error or null", next: "csv ok.csv --table t --short-rows null"},
	{name: "streams of one file", args: "points --n 5 --out x.csv --streams 2", code: exitUsage, says: `a \* in the name becomes the file's number`, next: "points --n 5 --out x*.csv --streams 2"},
	{name: "two tables of a name", args: "rows --table t=5,t=6", code: exitUsage, says: "--table names t twice", next: "rows --table t=5"},
	{name: "types", before: []string{okFile}, args: "csv ok.csv --table mine --create-table --types id", code: exitUsage, says: "--types takes COLUMN=TYPE,… or text", next: "csv ok.csv --table mine --create-table --types id=TEXT"},
	{name: "types of a table", before: []string{okFile}, args: "csv ok.csv --table t --types id=TEXT", code: exitUsage, says: "--types needs --create-table", next: "csv ok.csv --table t"},
	{name: "key of a table", before: []string{okFile}, args: "csv ok.csv --table t --key id", code: exitUsage, says: "--key needs --create-table", next: "csv ok.csv --table t"},
	{name: "method's name", before: []string{okFile}, args: "csv ok.csv --table t --via load", code: exitUsage, says: "--via is auto, insert, copy or import", next: "csv ok.csv --table t --via copy"},
	{name: "workers of no transfers", before: []string{"loader accounts --n 10"}, args: "transfer --verify --workers 2", code: exitUsage, says: "--workers and --seed need --n: --verify alone makes no transfers", next: "transfer --verify"},
	{name: "bench of standard input", before: []string{okFile}, args: "bench csv - --table t", code: exitUsage, says: "cannot use standard input; name files", next: "bench csv ok.csv --table t --chunks 2 --count 1 --via insert --workers 1"},
	{name: "bench of no table", args: "bench rows --n 10", code: exitUsage, says: "bench rows needs --table, the table to measure", next: "bench rows --table t --n 10 --chunks 10 --count 1 --via insert --workers 1"},
	{name: "bench by IMPORT", args: "bench --n 10 --via import", code: exitTarget, says: "--via import: .* has none for this load; leave it out", next: "bench --n 10 --chunks 10 --count 1 --via insert --workers 1"},
	{name: "shell", args: "completion tcsh", code: exitUsage, says: "completion takes bash, zsh or fish", next: "completion bash"},
	{name: "shells", args: "completion bash zsh", code: exitUsage, says: `completion takes one shell, not also "zsh"`, next: "completion bash"},
	{name: "argument of db", args: "db path x", code: exitUsage, says: `db path takes no argument "x"`},
	{name: "db alone", args: "db", code: exitUsage, says: "db needs one of start, stop, url, path, sql, remove", next: "db path"},
	{name: "db and no statements", args: "db sql", code: exitUsage, says: "db sql needs the statements to run"},
	{name: "manual", args: "man points", code: exitUsage, says: "man takes no argument", next: "man"},
	{name: "plan of several tables", args: "plan rows --table t=5,mine=6", code: exitUsage, says: "plan rows takes one table", next: "plan rows --table t=5"},
	{name: "rows of no table", args: "rows --n 5", code: exitUsage, says: "rows needs --table, the table to fill, or several: a=1000,b=100000", next: "rows --table t --n 5"},
	{name: "argument of transfer", before: []string{"loader accounts --n 10"}, args: "transfer 5", code: exitUsage, says: `transfer takes no argument "5"`, next: "transfer --n 5"},
	{name: "argument of points", args: "points 5", code: exitUsage, says: `points takes no argument "5"`, next: "points --n 5"},
	{name: "no retries", args: "points --n 5 --retry-for 0s", code: exitUsage, says: "must be greater than 0", next: "points --n 5 --retry-for 5s"},
	{name: "value of rows", args: "rows --table t --n 5 --value v", code: exitUsage, says: "--value", next: "rows --table t --n 5 --value v=const(x)"},
	{name: "value of several tables", args: "rows --table t=5,mine=6 --value v=const(x)", code: exitUsage, says: "--value needs a single table in --table", next: "rows --table t=5 --value v=const(x)"},
	{name: "value of no column", args: "rows --table t --n 5 --value w=const(x)", code: exitUsage, says: "has no such column that loader can fill", next: "rows --table t --n 5 --value v=const(x)"},
	{name: "value twice", args: "rows --table t --n 5 --value v=const(x) --value v=const(y)", code: exitUsage, says: "--value sets column v twice", next: "rows --table t --n 5 --value v=const(x)"},
	{name: "accounts by statement", args: "accounts --n 5 --commit statement", code: exitUsage, says: "accounts need --commit transaction, because an id that is taken is drawn again", next: "accounts --n 5 --commit transaction"},
	{name: "set twice", before: []string{okFile}, args: "csv ok.csv --table t --map v= --set v='x' --set v='y'", code: exitUsage, says: "--set gives column v twice|--set", next: "csv ok.csv --table t --map v= --set v='x'"},
	{name: "map twice", before: []string{okFile}, args: "csv ok.csv --table t --map v=id", code: exitTarget, says: "column id is set twice, by field id and by field v", next: "csv ok.csv --table t --map v=v"},
	{name: "map and set", before: []string{okFile}, args: "csv ok.csv --table t --map v=v --set v='x'", code: exitUsage, says: "column v is set twice, by --map v=v and by --set", next: "csv ok.csv --table t --map v= --set v='x'"},
	{name: "IMPORT's flags for chunks", before: []string{okFile}, args: "csv ok.csv --table t --via insert --handoff upload", code: exitUsage, says: "are for --via import, not --via insert", next: "csv ok.csv --table t --via insert"},
}

// fileSteps are files that are not what the command takes them for, and tables that refuse.
var fileSteps = []walkStep{
	{name: "page", before: []string{"write: p.csv <!DOCTYPE html>\n<html><body>x</body></html>\n", okFile}, args: "csv p.csv --table t", code: exitData, says: "is an HTML page, not CSV", next: "csv ok.csv --table t"},
	{name: "document", before: []string{"write: j.csv [{\"id\":1,\"v\":\"a\"}]\n"}, args: "csv j.csv --table t", code: exitData, says: `is JSON, not CSV; jq`},
	{name: "Excel's line", before: []string{"write: e.csv sep=;\nid;v\n1;a\n"}, args: "csv e.csv --table t", code: exitData, says: "begins with a line for Excel, sep=;; --skip 1 --delimiter ';'", next: "csv e.csv --table t --skip 1 --delimiter ;"},
	{name: "titles in front", before: []string{"write: x.csv A report\nid,v\n1,a\n2,b\n"}, args: "csv x.csv --table t", code: exitData, says: "--skip", next: "csv x.csv --table t --skip 1"},
	{name: "not in its encoding", before: []string{"write: x.csv id,v\n1,a\x81\n"}, args: "csv x.csv --table t --encoding win1252", code: exitData, says: "line 2: byte 8, 0x81, is not valid in .*; --encoding names another", next: "csv x.csv --table t --encoding cp437"},
	{name: "encoding's name", before: []string{okFile}, args: "csv ok.csv --table t --encoding klingon", code: exitUsage, says: `unknown encoding "klingon"; utf-8`, next: "csv ok.csv --table t --encoding utf-8"},
	{name: "UTF-16 without a mark", before: []string{"write: x.csv i\x00d\x00,\x00v\x00\n\x001\x00,\x00a\x00\n\x00"}, args: "csv x.csv --table t", code: exitData, says: "looks like UTF-16 without a byte order mark; (--encoding utf-16le)", next: "csv x.csv --table t --encoding utf-16le"},
	{name: "columns of a header", before: []string{okFile}, args: "csv ok.csv --table t --columns a,b,c", code: exitUsage, says: "--columns names 3 fields, but the header has 2", next: "csv ok.csv --table t --columns id,v"},
	{name: "keys of a file", before: []string{okFile}, args: "csv ok.csv --table mine --create-table --key z", code: exitTarget, says: "--key names z, but the file has id, v", next: "csv ok.csv --table mine --create-table --key id"},
	{name: "types of a file", before: []string{okFile}, args: "csv ok.csv --table mine --create-table --types z=TEXT", code: exitUsage, says: "--types names z, but the file has id, v", next: "csv ok.csv --table mine --create-table --types v=TEXT"},
	{name: "conflict without a key", before: []string{"sql: CREATE TABLE mine (id INT8 PRIMARY KEY DEFAULT 1, v TEXT)", "write: v.csv v\na\n"}, args: "csv v.csv --table mine --header yes --on-conflict skip", code: exitTarget, says: "--on-conflict skip needs the whole primary key of .*mine in the file", next: "csv v.csv --table mine --header yes"},
	{name: "column that nothing gives", before: []string{"write: v.csv v\na\n"}, args: "csv v.csv --table t --header yes", code: exitTarget, says: "column id of .*t is NOT NULL without a default, and no field goes into it; --set id=EXPRESSION sets it", next: "csv v.csv --table t --header yes --set id=7"},
	{name: "names twice", before: []string{"write: x.csv id,v,v\n1,a,b\n"}, args: "csv x.csv --table t", code: exitTarget, says: "two fields of the header have the name v; --columns gives them different names", next: "csv x.csv --table t --header yes --columns id,v,w --map w="},
	{name: "empty name", before: []string{"write: x.csv id,\n1,a\n2,b\n"}, args: "csv x.csv --table t --header yes", code: exitTarget, says: "field 2 of the header has no name; --map =COLUMN sets its column", next: "csv x.csv --table t --header yes --map =v"},
	{name: "table's other name", before: []string{okFile, `sql: CREATE TABLE "T" (id INT8 PRIMARY KEY, v TEXT)`, "sql: DROP TABLE t"}, args: "csv ok.csv --table t", code: exitTarget, says: `there is one called "T": --table '"T"'`, next: `csv ok.csv --table "T"`},
	{name: "form of other points", before: []string{"sql: CREATE TABLE points (a TEXT)"}, args: "points --n 5", code: exitTarget, says: "table .*points.* does not fit points", next: "points --n 5 --table mine"},
	{name: "rows without a parent", before: []string{"sql: CREATE TABLE child (id INT8 PRIMARY KEY, t INT8 NOT NULL REFERENCES t (id))"}, args: "rows --table child --n 5", code: exitTarget, says: "refers to .*t, which has no rows; load .*t first", next: "rows --table t=5,child=5"},
	{name: "rows of a view", before: []string{"sql: CREATE VIEW vw AS SELECT 1 AS x"}, args: "rows --table vw --n 5", code: exitTarget, says: "vw is a view without an INSTEAD OF INSERT trigger; name the table under it|vw is a view; loader rows fills tables", next: "rows --table t --n 5"},
	{name: "rows of no table there", args: "rows --table nosuch --n 5", code: exitTarget, says: "loader rows needs an existing table|no such table", next: "rows --table t --n 5"},
	{name: "table that changes rows", before: []string{okFile, "sql: CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "sql: CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()"}, args: "csv ok.csv --table t", code: exitUnconfirmed, says: "the server took 0 of 3 rows, and the transaction was rolled back; a trigger or rule may drop the others", next: "csv ok.csv --table mine --create-table"},
	{name: "trigger that drops made rows", before: []string{"sql: CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "sql: CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION nothing()"}, args: "rows --table t --n 5", code: exitTarget, says: "table .*t stores only 0 of the first 5 rows: a trigger or rule drops the others", next: "points --n 5"},
	{name: "trigger and statement", before: []string{okFile, "sql: CREATE OR REPLACE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "sql: CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION same()"}, args: "csv ok.csv --table t --commit statement", code: exitTarget, says: "--commit statement cannot tell which rows are loaded: trigger tr of .*t may change them; use --commit transaction", next: "csv ok.csv --table t --commit transaction"},
	{name: "trigger that takes rows away", before: append(append([]string{}, stopped...), "sql: CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'", "sql: CREATE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION nothing()"), args: "loads cancel $ID --remove-rows", code: exitRefused, says: "its rows cannot be removed: .*trigger", next: "loads cancel $ID"},
	{name: "trigger of transfers", before: []string{"loader accounts --n 5", "sql: CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "sql: CREATE TRIGGER tr BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION nothing()"}, args: "transfer", code: exitUnconfirmed, says: "the server changed 0 of 2 accounts, and the transfer was rolled back; a trigger or rule may stand in the way"},
	{name: "newer registry", before: []string{"loader points --n 1", "sql: INSERT INTO loader.version (number) VALUES (1000)"}, args: "points --n 5", code: exitTarget, says: "a newer loader wrote the registry .*version 1000, .*update loader", next: "points --n 5 --no-registry"},
	{name: "indexes of an unfinished load", before: append([]string{"sql: CREATE INDEX by_v ON t (v)", stopped[0]}, stopped[1]+" --indexes defer"), args: "loads forget $ID", code: exitRefused, says: "indexes that the load dropped are not recreated yet; resume or cancel it first", next: "loads cancel $ID"},
	{name: "pair in a value", args: "points --n 5 --url host=h;password=SECRET;port=1", code: exitUsage, says: "", next: "points --n 5"},
	{name: "certificates and no TLS", args: "points --n 5 --url postgres://u@h/x?sslmode=disable --certs-dir .", code: exitUsage, says: "--certs-dir and sslmode=disable contradict each other", next: "points --n 5"},
	{name: "other table", before: append(append([]string{}, stopped...), "sql: DROP TABLE t", "sql: CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)"), args: "loads resume $ID --max-errors 1", code: exitRefused, says: "the table is not as it was loaded|another table|loads forget", next: "loads forget $ID"},
	{name: "deferrable key", before: []string{okFile, "sql: DROP TABLE t", "sql: CREATE TABLE t (id INT8 PRIMARY KEY DEFERRABLE, v TEXT)"}, args: "csv ok.csv --table t --commit statement", code: exitTarget, says: "deferrable.*--commit transaction", next: "csv ok.csv --table t --commit transaction"},
}

// importSteps are of IMPORT, on CockroachDB.
var importSteps = []walkStep{
	{name: "address to serve at", args: "points --n 10 --via import --handoff serve --serve-addr nonsense", code: exitUsage, says: `--serve-addr takes HOST:PORT, not "nonsense"`, next: "points --n 10 --via import --handoff upload"},
	{name: "handoff's scheme", args: "points --n 10 --via import --handoff ftp://h/x.csv", code: exitUsage, says: "IMPORT INTO reads s3://, gs://, azure-blob://, nodelocal://, userfile://, http:// and https://, not ftp://", next: "points --n 10 --via import --handoff upload"},
	{name: "handoff's place", args: "points --n 10 --via import --handoff s3:///x.csv", code: exitUsage, says: "names no host, bucket or node", next: "points --n 10 --via import"},
	{name: "handoff's name", args: "points --n 10 --via import --handoff disk", code: exitUsage, says: "--handoff is auto, serve, upload or a URL that the server reads", next: "points --n 10 --via import --handoff auto"},
	{name: "chunks of IMPORT", args: "points --n 10 --via import --chunk 5", code: exitUsage, says: "--chunk cannot be used with IMPORT", next: "points --n 10 --via import"},
	{name: "IMPORT into rows", before: []string{"sql: INSERT INTO t VALUES (1, 'a')", "write: x.csv id,v\n1,b\n2,c\n"}, args: "csv x.csv --table t --via import --handoff upload", code: exitData, says: "ingested key collides with an existing one|duplicate key", next: "csv x.csv --table t --via insert --on-conflict skip"},
	{name: "IMPORT without a registry's job", before: []string{"loader points --n 10 --via insert"}, args: "loads resume $ID --via import", code: exitUsage, says: "was begun in chunks and cannot be resumed with --via import", next: "loads resume $ID"},
	{name: "chunks of a load by IMPORT", before: []string{"loader points --n 10 --via import --handoff upload"}, args: "loads resume $ID --via insert", code: exitUsage, says: "was begun by IMPORT and cannot be resumed with --via insert", next: "loads resume $ID"},
	{name: "copy of escapes", before: []string{"sql: DROP TABLE t", "sql: CREATE TABLE t (id INT8 PRIMARY KEY, v BYTES)", "write: x.csv id,v\n1,a\n"}, args: "csv x.csv --table t --via copy", code: exitTarget, says: "commits a COPY outside a transaction in parts; use --commit transaction or --via insert", next: "csv x.csv --table t --via insert"},
	{name: "rows by COPY", args: "rows --table t --n 5 --via copy", code: exitUsage, says: "use --via insert", next: "rows --table t --n 5 --via insert"},
}

// allSteps returns the steps of all lists.
func allSteps() []walkStep { return slices.Concat(walk, usageSteps, fileSteps, importSteps) }

// TestWalkOn takes the steps of flags, of files and tables, and of IMPORT.
func TestWalkOn(t *testing.T) {
	take := func(t *testing.T, s loadertest.Server, list []walkStep) {
		url := s.NewDatabase(t)
		for i, step := range list {
			if !loadertest.Chaos && i%16 != 0 {
				continue // all of them take their time
			}
			if s.Cockroach && i > 0 { // it drops tables slowly
				url = s.NewDatabase(t)
			}
			step.take(t, url)
		}
	}
	t.Run("PostgreSQL", func(t *testing.T) { take(t, loadertest.PostgreSQLServer(t), slices.Concat(usageSteps, fileSteps)) })
	t.Run("CockroachDB", func(t *testing.T) {
		s, steps := loadertest.CockroachServer(t), importSteps
		if loadertest.Open(t, s.URL()).AtLeast(22, 2, 0) {
			steps = slices.DeleteFunc(slices.Clone(steps), func(x walkStep) bool { return x.name == "copy of escapes" }) // such a COPY is whole
		}
		take(t, s, steps)
	})
}

// TestWalkOfTheLocalDatabase does the same for the private server and what it is started from.
func TestWalkOfTheLocalDatabase(t *testing.T) {
	for i, step := range []struct {
		env        []string
		args, says string
	}{
		{[]string{"COCKROACH_BINARY=/bin/true"}, "db start", "/bin/true version prints no version"},
		{[]string{"COCKROACH_BINARY=/bin/false"}, "db start", "/bin/false version: exit status 1"},
		{[]string{"COCKROACH_BINARY=/nonexistent"}, "db start", "no cockroach on PATH or in COCKROACH_BINARY"},
		{nil, "db start --cockroach", "no cockroach on PATH or in COCKROACH_BINARY"},
		{[]string{"LOADER_PG_BIN=/nowhere", "LOADER_DOWNLOAD=never"}, "points --n 5", "no initdb and postgres in LOADER_PG_BIN, on PATH or where packages install them"},
		{nil, "db start --postgres 9", "PostgreSQL 9 is not installed, and only 14 to 18 are fetched"},
		{[]string{"LOADER_DOWNLOAD=never", "LOADER_CACHE_DIR=/proc/x"}, "db start --postgres 16", "LOADER_DOWNLOAD=never; pass --url, or install one"},
		{[]string{"LOADER_CACHE_DIR=/proc/x"}, "db start --postgres 16", "LOADER_CACHE_DIR names another"},
		{[]string{"LOADER_DB_DIR=/proc/x"}, "db start", "make the data directory: mkdir /proc/x: no such file or directory"},
		{nil, "db url", "the local database is not running; loader db start starts it"},
	} {
		if !loadertest.Chaos && i > 0 {
			continue
		}
		p := newPlace(t)
		run := func(code int, env []string, args string) string {
			cmd := p.command("", append([]string{mustLookPath("loader")}, strings.Fields(args)...)...)
			cmd.Env = append(cmd.Env, env...)
			return runTo(t, code, cmd)
		}
		if said := run(exitTarget, step.env, step.args); !strings.Contains(said, step.says) || strings.Count("\n"+said, "\nloader: ") != 1 {
			t.Errorf("%q, %s: %s, want %q", step.env, step.args, said, step.says)
		}
		// Without the fault the private server starts and answers.
		if i%3 == 0 {
			run(exitOK, nil, "db start")
			run(exitOK, nil, "db url")
			run(exitOK, nil, "db stop")
		}
		p.checkEmpty(t)
	}
}
