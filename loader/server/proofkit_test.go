package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/server"
)

// setBudget sets kv.transaction.max_intents_bytes until the end of the test.
func setBudget(t *testing.T, conn *pgx.Conn, bytes int64) {
	t.Helper()
	exec(t, conn,
		"SET CLUSTER SETTING sql.stats.automatic_collection.enabled = false",
		fmt.Sprintf("SET CLUSTER SETTING %s = %d", server.IntentSetting, bytes))
	t.Cleanup(func() { exec(t, conn, "RESET CLUSTER SETTING "+server.IntentSetting) })
}

// condensed returns how many transactions the node has condensed.
func condensed(t *testing.T, conn *pgx.Conn) int64 {
	t.Helper()
	var n float64
	if err := conn.QueryRow(context.Background(), metricOf("txn.condensed_intent_spans")).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return int64(n)
}

// raisedBy runs a statement in an explicit transaction, which it rolls back, and
// returns by how much the metric of condensed transactions rose.
func raisedBy(t *testing.T, conn, watch *pgx.Conn, statement string) int64 {
	t.Helper()
	before := condensed(t, watch)
	exec(t, conn, "BEGIN")
	_, err := conn.Exec(context.Background(), statement)
	after := condensed(t, watch)
	exec(t, conn, "ROLLBACK")
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return after - before
}

// checkCliff checks that a transaction with rows rows is not condensed, and one with
// one row more is, once.
func checkCliff(t *testing.T, conn, watch *pgx.Conn, rows int64, insert func(n int64) string) {
	t.Helper()
	var below, above int64
	for range attempts {
		below = raisedBy(t, conn, watch, insert(rows))
		above = raisedBy(t, conn, watch, insert(rows+1))
		if below == 0 && above == 1 {
			return
		}
	}
	t.Errorf("%d rows raised the metric by %d, want 0; %d rows by %d, want 1", rows, below, rows+1, above)
}

// findCliff returns the most rows of a transaction that is not condensed, below most. It tries guess
// first: rows that are expected not to condense, with one more that does.
func findCliff(t *testing.T, conn, watch *pgx.Conn, guess, most int64, insert func(n int64) string) int64 {
	t.Helper()
	condenses := func(n int64) bool {
		// The cluster's own transactions may condense too: what is seen once not to does not.
		for range attempts {
			if raisedBy(t, conn, watch, insert(n)) == 0 {
				return false
			}
		}
		return true
	}
	rows, above := int64(0), most
	for next := guess; rows+1 < above; next = (rows + above) / 2 {
		if rows == guess {
			next = guess + 1
		}
		if next = min(next, above-1); condenses(next) {
			above = next
		} else {
			rows = next
		}
	}
	return rows
}

// checkBound checks a bound of bytes a row, of rows of which rows are not condensed under the budget,
// and one more is: as many as the bound allows must not be, and the bound must be at most closeBound ×
// what was measured, unless there is a reason.
func checkBound(t *testing.T, what string, bytes, rows, budget int64, loose string) {
	t.Helper()
	ratio := float64(bytes) * float64(rows) / float64(budget-1)
	t.Logf("%s: the bound is %d bytes a row, %.2f of what was measured", what, bytes, ratio)
	if most := (budget - 1) / bytes; most > rows {
		t.Errorf("%s: %d rows are planned, and %d condense", what, most, rows+1)
	}
	if ratio > closeBound && loose == "" {
		t.Errorf("%s: the bound is %d bytes a row, %.2f of what was measured; want at most %.1f", what, bytes, ratio, closeBound)
	}
}

// recordOf returns the length of the record that a file has for the row of an INSERT, in the
// server's own text, and the most commas in one of its fields, plus one.
func recordOf(t *testing.T, conn *pgx.Conn, table, columns, insert string) (length, elements int64) {
	t.Helper()
	list := strings.Split(columns, ", ")
	var fields []string
	for _, c := range list {
		fields = append(fields, fmt.Sprintf("COALESCE(%s::STRING, '')", c))
	}
	exec(t, conn, "BEGIN", insert)
	var texts []string
	err := conn.QueryRow(context.Background(), fmt.Sprintf("SELECT ARRAY[%s] FROM %s LIMIT 1", strings.Join(fields, ", "), table)).Scan(&texts)
	exec(t, conn, "ROLLBACK")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		length += int64(len(text))
		elements = max(elements, int64(strings.Count(text, ","))+1)
	}
	return length + int64(len(texts)-1), elements
}

func tableIndex(t *testing.T, table *server.Table, name string) server.TableIndex {
	t.Helper()
	for _, x := range table.Indexes {
		if x.Name == name || name == "primary" && x.Primary {
			return x
		}
	}
	t.Fatalf("index %s is not described: %+v", name, table.Indexes)
	return server.TableIndex{}
}

func infoOf(t *testing.T, conn *pgx.Conn) server.Info {
	t.Helper()
	info, err := server.ReadInfo(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// intentLimit returns the limit of the server on intent bytes.
func intentLimit(t *testing.T, conn *pgx.Conn) chunker.Limit {
	t.Helper()
	for _, l := range server.Limits(context.Background(), conn, infoOf(t, conn)) {
		if l.Unit == chunker.IntentBytes {
			return l
		}
	}
	t.Fatal("no limit on intent bytes")
	return chunker.Limit{}
}
