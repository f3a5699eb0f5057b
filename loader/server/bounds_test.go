package server_test

import (
	"fmt"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/loadertest"
)

// A longest is a type with values that are as long in a key as any of it. A second column of the
// key, 4611686018427387904 + g, keeps rows apart where one is needed.
type longest struct {
	sql, value string
	alone      bool // values differ by g
}

var longests = []longest{
	{"INT8", "4611686018427387904 + g", true},
	{"INT4", "2147483647 - g", true},
	{"INT2", "32767 - g", true},
	{"BOOL", "true", false},
	{"DATE", "'infinity'::DATE", false},
	{"TIME", "'23:59:59.999999'::TIME", false},
	{"TIMETZ", "'23:59:59.999999-15:59'::TIMETZ", false},
	{"TIMESTAMP", "'294276-12-31 23:59:59.999999'::TIMESTAMP", false},
	{"TIMESTAMPTZ", "'294276-12-31 23:59:59.999999+00'::TIMESTAMPTZ", false},
	{"INTERVAL", "'-3500 mons 106000 days 20:00:00'::INTERVAL", false},
	{"FLOAT8", "-1.5e300", false},
	{"FLOAT4", "-1.5", false},
	{"DECIMAL(12,2)", "9999999999.99 - g::DECIMAL", true},
	{"DECIMAL(12,12)", "0.099999999999", false},
	{"DECIMAL(30,4)", "99999999999999999999999999.9999 - g::DECIMAL", true},
	{"UUID", "'00000000-0000-0000-0000-000000000000'::UUID", false},
	{"INET", "'::/0'::INET", false},
	{"OID", "(4294967295 - g)::OID", true},
	{"BIT(3)", "B'111'", false},
	{"BIT(130)", "repeat('1', 130)::BIT(130)", false},
	{"VARCHAR(3)", "'\U0001D11E\U0001D11E\U0001D11E'", false},
	{"BOX2D", "'BOX(1 2,3 4)'::BOX2D", false},
	{"BYTES", "decode(repeat('00', 24), 'hex') || g::STRING::BYTES", true},
}

// TestBoundsAreClose finds the row on which a live CockroachDB condenses the longest values of each
// type of key. The plan ends before it, by no more than closeBound allows. So does that of text at
// some of its lengths: those that just outgrow a slice of the server. Other text takes less.
func TestBoundsAreClose(t *testing.T) {
	loadertest.Slow(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	conn, watch := loadertest.Connect(t, url), loadertest.Connect(t, url)
	const budget = 32 << 10
	setBudget(t, watch, budget)
	info := infoOf(t, conn)
	unbuffered(t, conn)
	cliff := func(table, columns, values string, g keysize.RowInfo) (bytes, rows int64) {
		insert := func(n int64) string {
			return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM generate_series(1, %d) AS g", table, columns, values, n)
		}
		record, _ := recordOf(t, conn, table, columns, insert(1))
		g.Major, g.Minor, g.MaxRecordBytes = info.Major, info.Minor, record
		bytes = describe(t, conn, table).Keys.Cost(g).Use(chunker.IntentBytes, 1, record)
		return bytes, findCliff(t, conn, watch, (budget-1)/bytes, 3*budget/bytes, insert) // no bound is that loose
	}
	for i, l := range longests {
		table, columns, values, key := fmt.Sprintf("l%d", i), "v, n", l.value+", 4611686018427387904 + g", "v, n"
		if l.alone {
			columns, values, key = "v", l.value, "v"
		}
		for _, key := range []string{key, strings.Replace(key, "v", "v DESC", 1)} {
			table += "x"
			exec(t, conn, fmt.Sprintf("CREATE TABLE %s (v %s, n INT8, PRIMARY KEY (%s))", table, l.sql, key))
			bytes, rows := cliff(table, columns, values, keysize.RowInfo{})
			checkBound(t, fmt.Sprintf("%s, key (%s)", l.sql, key), bytes, rows, budget, "")
		}
	}

	// Text that is the whole key, in tables of few and of many columns, and of two families.
	wide := ""
	for i := range 60 {
		wide += fmt.Sprintf(", c%d INT8", i)
	}
	id := keysize.RowInfo{Ints: map[string]keysize.IntRange{"id": {First: 20_000, Last: 60_000}}}
	exec(t, conn,
		"CREATE TABLE narrow (v STRING PRIMARY KEY)",
		"CREATE TABLE wide (v STRING PRIMARY KEY"+wide+")",
		"CREATE TABLE parts (v STRING PRIMARY KEY, n INT8 NOT NULL DEFAULT 1, FAMILY (v), FAMILY (n))",
		"CREATE TABLE wideint (id INT8 PRIMARY KEY"+wide+")",
		"CREATE TABLE wideindex (id INT8 PRIMARY KEY, v STRING, INDEX (v)"+wide+")")
	closest := 0.0
	for _, x := range []struct {
		table  string
		length int
	}{
		{"narrow", 5}, {"narrow", 24}, {"narrow", 25}, {"narrow", 26}, {"narrow", 27}, {"narrow", 28}, {"narrow", 60}, {"narrow", 134},
		{"wide", 5}, {"wide", 60}, {"wide", 150}, {"parts", 5}, {"parts", 60}, {"parts", 139},
	} {
		bytes, rows := cliff(x.table, "v", fmt.Sprintf("lpad(g::STRING, %d, 'x')", x.length), keysize.RowInfo{})
		checkBound(t, fmt.Sprintf("text of %d bytes in table %s", x.length, x.table), bytes, rows, budget, shortText)
		closest = max(closest, float64(budget-1)/float64(bytes*rows))
	}
	if 1/closest > closeBound {
		t.Errorf("the bound of text is %.2f of what was measured at least", 1/closest)
	}
	bytes, rows := cliff("wideint", "id", "20000 + g", id)
	checkBound(t, "INT8 in a table of 61 columns", bytes, rows, budget, "")
	bytes, rows = cliff("wideindex", "id, v", "20000 + g, lpad(g::STRING, 20, 'x')", id)
	checkBound(t, "text in an index of a table of 62 columns", bytes, rows, budget, shortText)
}
