package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// half begins a load of n rows and stops it when half of them are in.
func (s subject) half(t *testing.T, url string, n int64) *load.Load {
	t.Helper()
	stop := make(chan struct{})
	left := n / 2
	s.Stop, s.Workers = stop, 2
	s.Observe = func(e loader.Event) {
		before := left
		if left -= e.Span.Rows; left <= 0 && before > 0 {
			close(stop)
		}
	}
	x := s.startDirect(t, url, n)
	if _, err := x.wait(); !errors.Is(err, loader.ErrStopped) {
		t.Fatalf("got %v, want a load that was stopped", err)
	}
	x.Close()
	return x.Load
}

// goOn resumes a load to its end, and returns why that was refused, or what the run met.
func goOn(t *testing.T, url string, l *load.Load, set load.Settings) (notes string, err error) {
	t.Helper()
	set.RetryFor, set.Input = time.Minute, files.NewInput(nil)
	set.Note = func(s string) { notes += s + "\n" }
	again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, set)
	if err != nil {
		return notes, err
	}
	defer again.Close()
	_, err = again.Run(context.Background())
	return notes, err
}

// A change is what becomes of a table while a load into it is stopped.
type change struct {
	name       string
	statements []string // $T is its name, and $DDL makes it
	atOnce     bool     // in one transaction
	only       string   // the product that has it; empty is both
	refused    string   // regular expression on what the resume says; empty where it goes on
	looks      bool     // it looks the rows on record up
}

var changes = []change{
	{name: "nothing"},
	{name: "truncated", statements: []string{"TRUNCATE $T"}, refused: "are missing|fewer than", looks: true},
	{name: "dropped", statements: []string{"DROP TABLE $T", "$DDL"}, atOnce: true, refused: "is not the table that the load began with|is another table now"},
	{name: "renamed", statements: []string{"ALTER TABLE $T RENAME TO old", "$DDL"}, refused: "is not the table that the load began with|is another table now"},
	{name: "restored", statements: []string{"CREATE TABLE copied AS SELECT * FROM $T", "DROP TABLE $T", "$DDL", "INSERT INTO $T SELECT * FROM copied"}, refused: "is not the table that the load began with|is another table now"},
	{name: "vacuumed", statements: []string{"VACUUM FULL $T"}, only: "PostgreSQL", looks: true},
	{name: "moved", statements: []string{"ALTER TABLE $T SET UNLOGGED", "ALTER TABLE $T SET LOGGED"}, only: "PostgreSQL", looks: true},
	{name: "of an older version", statements: []string{oldRecord}, looks: true},
	{name: "of an older version, truncated", statements: []string{oldRecord, "TRUNCATE $T"}, refused: "are missing|fewer than", looks: true},
	{name: "partly truncated", statements: []string{"CREATE TABLE copied AS SELECT * FROM $T LIMIT 1500", "TRUNCATE $T", "INSERT INTO $T SELECT * FROM copied"}, refused: "are missing|fewer than", looks: true},
}

// oldRecord stands for taking the identity out of the records, which older versions did
// not keep.
const oldRecord = "OLD RECORD"

func (c change) make(t *testing.T, url string, sub subject, id string) {
	t.Helper()
	var list []string
	for _, q := range c.statements {
		if q == oldRecord {
			forgetIdentity(t, url, id)
			continue
		}
		list = append(list, strings.NewReplacer("$DDL", sub.ddl, "$T", sub.table).Replace(q))
	}
	if c.atOnce {
		list = []string{strings.Join(list, "; ")}
	}
	loadertest.Exec(t, url, list...)
}

// forgetIdentity takes the identity of the table out of a record.
func forgetIdentity(t *testing.T, url, id string) {
	t.Helper()
	var spec map[string]any
	text := loadertest.Value[string](t, url, "SELECT spec FROM loader.loads WHERE id = $1", id)
	if err := json.Unmarshal([]byte(text), &spec); err != nil || spec["identity"] == nil {
		t.Fatalf("the record %s has no identity: %v", text, err)
	}
	delete(spec, "identity")
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url, fmt.Sprintf("UPDATE loader.loads SET spec = '%s' WHERE id = '%s'", strings.ReplaceAll(string(b), "'", "''"), id))
}

// TestResumeOfATableThatChanged stops loads half-way, changes the table, and resumes them:
// they are refused where the rows on record are not there, and exact where they are.
func TestResumeOfATableThatChanged(t *testing.T) {
	eachOf(t, all, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Slow(t)
		}
		for _, c := range changes {
			if c.only != "" && c.only != srv.Product.String() {
				continue
			}
			if !loadertest.Chaos && sub.kind != "keyless" && c.name != "truncated" && c.name != "vacuumed" {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				clearTables(t, url)
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS old", "DROP TABLE IF EXISTS copied")
				const n = 4000
				l := sub.half(t, url, n)
				c.make(t, url, sub, l.ID)
				notes, err := goOn(t, url, l, sub.Settings)
				if looks := strings.Contains(notes, "looking up"); looks != c.looks {
					t.Errorf("the rows on record are looked up: %v, want %v; notes: %q", looks, c.looks, notes)
				}
				if c.refused != "" {
					checkRefused(t, err, c.refused)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if notes, err := goOn(t, url, l, sub.Settings); err != nil || notes != "" {
					t.Errorf("another resume: %v, notes %q; want none, since the table is on record", err, notes)
				}
				sub.exact(t, url, l, n)
			})
		}
	})
}

// TestTableThatChangesInARun changes a table when half of the rows are in: a run whose rows
// are gone does not end well, and one whose rows are still there does.
func TestTableThatChangesInARun(t *testing.T) {
	eachOf(t, all, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Slow(t)
		}
		for _, c := range changes {
			if c.name != "truncated" && c.name != "dropped" && c.name != "vacuumed" || c.only != "" && c.only != srv.Product.String() {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				clearTables(t, url)
				const n = 6000
				left := int64(n / 2)
				sub.Observe = func(e loader.Event) {
					before := left
					if left -= e.Span.Rows; left <= 0 && before > 0 {
						c.make(t, url, sub, "")
					}
				}
				x := sub.startDirect(t, url, n)
				_, err := x.wait()
				if c.refused == "" {
					if err != nil {
						t.Fatal(err)
					}
					sub.exact(t, url, x.Load, n)
					return
				}
				if srv.Cockroach && server.Code(err) == "42P01" {
					return // the name was nobody's for a moment: its DDL is no transaction
				}
				if !errors.Is(err, loader.ErrUnconfirmed) || !errors.Is(err, load.ErrTable) || !regexp.MustCompile(c.refused).MatchString(err.Error()) {
					t.Errorf("got %v, want it unconfirmed for the table: %s", err, c.refused)
				}
				if _, err := goOn(t, url, x.Load, load.Settings{}); err == nil {
					t.Error("the load was resumed to a good end")
				}
			})
		}
	})
}

// partitioned makes a table without a key whose rows are in two partitions, and returns a
// subject that loads into it.
func partitioned(t *testing.T, url string) subject {
	t.Helper()
	clearTables(t, url)
	loadertest.Exec(t, url, "CREATE TABLE points (id INT8, s TEXT) PARTITION BY RANGE (id)",
		"CREATE TABLE low PARTITION OF points FOR VALUES FROM (MINVALUE) TO (1000)",
		"CREATE TABLE high PARTITION OF points FOR VALUES FROM (1000) TO (MAXVALUE)")
	return fileSubject("keyless", keylessDDL, commit.Transaction, commit.Copy, 0)
}

// TestPartitionsThatChange takes the rows of one partition away.
func TestPartitionsThatChange(t *testing.T) {
	srv := loadertest.PostgreSQLServer(t)
	url := srv.NewDatabase(t)
	for _, statements := range [][]string{
		{"TRUNCATE low"},
		{"ALTER TABLE points DETACH PARTITION low", "ALTER TABLE low RENAME TO lower", "CREATE TABLE low PARTITION OF points FOR VALUES FROM (MINVALUE) TO (1000)"},
	} {
		sub := partitioned(t, url)
		l := sub.half(t, url, 4000)
		loadertest.Exec(t, url, statements...)
		_, err := goOn(t, url, l, sub.Settings)
		checkRefused(t, err, "fewer than")
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS lower")
	}
	sub := partitioned(t, url)
	loadertest.Exec(t, url, "ALTER TABLE high SET UNLOGGED")
	x := sub.enter(t, url, url, 100)
	if !strings.Contains(strings.Join(x.Notes, ""), "UNLOGGED") {
		t.Errorf("a partition is UNLOGGED, and the notes are %q", x.Notes)
	}
}
