package server_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestOnePhaseCountsRows measures up to where one INSERT commits in one phase, by txn.commits1PC:
// it is rows, not key-value pairs, that decide, and from 21.2 on the bytes of a batch. All rows lie in
// one range: ranges are not split by load, and what is measured while one was split does not count.
func TestOnePhaseCountsRows(t *testing.T) {
	conn := connect(t, loadertest.CockroachServer(t))
	exec(t, conn, "SET CLUSTER SETTING sql.stats.automatic_collection.enabled = false",
		"CREATE TABLE t (id INT8 PRIMARY KEY, b INT8, c INT8, INDEX (b), INDEX (c))", "CREATE TABLE w (id INT8 PRIMARY KEY, v STRING)")
	holdRanges(t, conn)
	unbuffered(t, conn)
	info := infoOf(t, conn)
	limits := map[string]chunker.Limit{}
	for _, l := range server.Limits(context.Background(), conn, info) {
		limits[l.Name] = l
	}
	rows := limits[server.OnePhase]
	if rows.Unit != chunker.Rows {
		t.Fatalf("got %+v, want rows", rows)
	}
	insert := "INSERT INTO t SELECT $1::INT8 + g, g, g FROM generate_series(1, $2::INT8) AS g"
	checkOnePhase(t, conn, "t", insert, rows.Max, rows.Max+1)

	batch, ok := limits["sql.mutations.mutation_batch_byte_size"]
	if ok != info.AtLeast(21, 2, 0) {
		t.Fatalf("%s: got a limit on the bytes of a batch: %v", info, ok)
	}
	if !ok {
		return
	}
	// Rows of 2 KiB, with what the plan counts for each.
	const length = 2 << 10
	table := describe(t, conn, "w")
	cost := table.Keys.Cost(keysize.RowInfo{Major: info.Major, Minor: info.Minor})
	cost.MessageBytes, cost.MessagePerByte = 8, 1
	most := batch.Max / cost.Use(chunker.WriteBytes, 1, length)
	wide := fmt.Sprintf("INSERT INTO w SELECT $1::INT8 + g, repeat('x', %d) FROM generate_series(1, $2::INT8) AS g", length)
	checkOnePhase(t, conn, "w", wide, most, int64(closeBound*float64(most)))
}

// holdRanges keeps the server from splitting ranges by their load. Versions name it differently.
func holdRanges(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var err error
	for _, name := range []string{"kv.range_split.by_load.enabled", "kv.range_split.by_load_enabled"} {
		if _, err = conn.Exec(context.Background(), "SET CLUSTER SETTING "+name+" = false"); err == nil {
			t.Cleanup(func() { exec(t, conn, "RESET CLUSTER SETTING "+name) })
			return
		}
	}
	t.Fatal(err)
}

// checkOnePhase checks that an INSERT of below rows commits in one phase, and one of above rows does
// not. $1 of the statement is a number that no earlier row reaches, $2 the number of rows.
//
// Other transactions of the node commit in one phase too. So only a metric that stands still tells
// for certain: it must for the larger statement, in one of some attempts, and never for the smaller.
func checkOnePhase(t *testing.T, conn *pgx.Conn, table, insert string, below, above int64) {
	t.Helper()
	ctx := context.Background()
	value := func(query string) (n float64) {
		t.Helper()
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return n
	}
	ranges := func() float64 {
		return value("SELECT count(*)::FLOAT8 FROM [SHOW RANGES FROM TABLE " + table + "]")
	}
	// Once split off from its neighbours, the table has a range of its own.
	loadertest.Eventually(t, "table "+table+" is one range", func() bool { return ranges() == 1 })
	var base int64
	still := func(rows int64) (still, counts bool) {
		base += 100_000
		before := value(metricOf("txn.commits1PC"))
		if _, err := conn.Exec(ctx, insert, base, rows); err != nil {
			t.Fatal(err)
		}
		still = value(metricOf("txn.commits1PC")) == before
		return still, ranges() == 1
	}
	for range 5 {
		if still, counts := still(below); still && counts {
			t.Errorf("table %s: %d rows do not commit in one phase", table, below)
		}
	}
	for range 20 {
		if still, counts := still(above); still && counts {
			return
		}
	}
	t.Errorf("table %s: %d rows commit in one phase", table, above)
}

// metricOf returns the query of a metric of the node.
func metricOf(name string) string {
	return "SELECT value FROM crdb_internal.node_metrics WHERE name = '" + name + "'"
}
