package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"bulkload/loader/loadertest"
)

// earlierTables are the files with the tables of the registry, in the order in which versions
// of the loader added them, and the columns that they have.
var earlierTables = []struct{ file, tables string }{
	{"1-base.sql", "loads (id, created_at, finished_at, what, target, state, positions, done, spec, job)\nclaims (load, lo, hi, run, done, beat)\nledger (load, lo, hi)\nmoved (load, row_number, id)"},
	{"2-indexes.sql", "indexes (load, name, place, ddl)"},
	{"3-tuning.sql", ""},
	{"4-rejects.sql", "rejects (load, position, file, line, byte, column_name, code, reason, record)"},
}

// turnBack makes the registry one as an earlier version of the loader made it, with the
// first n files' tables and the rows that they would have.
func turnBack(t *testing.T, url string, n int) {
	t.Helper()
	var before, behind []string
	for _, e := range earlierTables[:n] {
		text, err := os.ReadFile("../../loader/registry/testdata/earlier/" + e.file)
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range strings.Split(string(text), ";") {
			if strings.TrimSpace(sql) != "" {
				behind = append(behind, sql)
			}
		}
		for _, table := range strings.Split(e.tables, "\n") {
			if table == "" {
				continue
			}
			name, columns, _ := strings.Cut(table, " ")
			columns = strings.Trim(columns, "()")
			before = append(before, "CREATE TABLE kept_"+name+" AS SELECT "+columns+" FROM loader."+name)
			behind = append(behind, "INSERT INTO loader."+name+" ("+columns+") SELECT "+columns+" FROM kept_"+name, "DROP TABLE kept_"+name)
		}
	}
	loadertest.Exec(t, url, append(append(before, "DROP SCHEMA loader CASCADE"), behind...)...)
	// What later versions record with a load.
	loadertest.Exec(t, url, "UPDATE loader.loads SET spec = (spec::JSONB - 'identity' - 'session')::TEXT")
}

// TestLoadsOfEarlierVersions kills loads and gives them the registry that earlier versions
// made: the loads are listed, and resumed to the last row.
func TestLoadsOfEarlierVersions(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		for _, kind := range []string{"points", "csv"} {
			for _, sub := range subjects(t, s, 10_000)[kind] {
				if sub.via != "insert" {
					continue
				}
				for n := 1; n <= len(earlierTables); n++ {
					if kind == "csv" && n < len(earlierTables) || !loadertest.Chaos && n > 1 && n < len(earlierTables) {
						continue
					}
					t.Run(sub.String()+", "+earlierTables[n-1].file, func(t *testing.T) {
						url := registered(t, s)
						sub.fresh(t, url)
						_, before := entered(t, url, 0)
						z := startZombie(t, command(url, sub.command("--chunk", "20", "--workers", "2", "--rate", "3000")...))
						loadertest.Eventually(t, "rows", func() bool {
							return loadertest.Value[int64](t, url, "SELECT count(*) FROM "+sub.table) >= 500
						})
						z.signal(t, syscall.SIGKILL)
						<-z.ended
						id, _ := entered(t, url, before)
						if state := loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", id); state != "loading" {
							t.Fatalf("the load was %s when it was killed, want loading", state)
						}
						s.EndSessions(t, url)
						turnBack(t, url, n)
						if list := mustRun(t, url, "loads", "list"); !strings.Contains(list, id) {
							t.Errorf("the list does not have the load:\n%s", list)
						}
						runTo(t, sub.done(), command(url, sub.resume(id)...))
						sub.check(t, url, id)
					})
				}
			}
		}
	})
}
