package server_test

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A part of a key: an SQL expression over the row number g, and the size that its
// value takes by the functions of package chunker.
type part struct {
	sql  string
	size int64
}

// A provenIndex is one index of a schema with the parts of its key, and the families
// or, for an inverted index, the elements that have a key each.
type provenIndex struct {
	name     string
	parts    []part
	families []int   // nil is family 0
	elements []int64 // sizes, for an inverted index; no encode_key then
}

// A proof is a schema whose rows all have keys of one size.
type proof struct {
	name    string
	ddl     string // of table %s
	columns string // to insert into
	values  string // to insert, over g
	indexes []provenIndex
	// exact says that the described table must give that size, not a bound.
	exact bool
	ints  map[string]keysize.IntRange
	// loose is why the bound of these rows may be more than closeBound × what they take.
	loose string
}

// closeBound is how many times as much as what the server counts a bound may be, for the longest
// values of each type, and for those of the proofs without a reason.
const closeBound = 1.3

// Reasons of bounds that are not close, each of which needs the values themselves.
const (
	shortText  = "text that has not just outgrown its slice, beside other text in its record"
	fewZeros   = "a UUID or address of few zero bytes, each of which may be two"
	noEntry    = "rows may have no entry in a family or an index"
	anyResult  = "the result of an expression has no known length"
	fewDigits  = "digits take half a byte each, but may be an exponent"
	noElements = "the elements of a value are known by its commas alone"
)

func ints(pairs ...any) map[string]keysize.IntRange {
	m := map[string]keysize.IntRange{}
	for i := 0; i < len(pairs); i += 3 {
		m[pairs[i].(string)] = keysize.IntRange{First: int64(pairs[i+1].(int)), Last: int64(pairs[i+2].(int))}
	}
	return m
}

func primary(parts ...part) provenIndex { return provenIndex{name: "primary", parts: parts} }

func index(name string, parts ...part) provenIndex { return provenIndex{name: name, parts: parts} }

// Numbers from 20 000 on are 3 bytes, up to 65 535.
var (
	id    = part{"20000 + g", 3}
	big   = map[string]keysize.IntRange{"id": {First: 20_000, Last: 60_000}}
	upper = strings.ToUpper
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var proofs = []proof{
	{"int", "CREATE TABLE %s (id INT8 PRIMARY KEY, x FLOAT8)", "id, x", "20000 + g, g::FLOAT8", []provenIndex{primary(id)}, true, big, ""},
	{"int descending", "CREATE TABLE %s (id INT8, PRIMARY KEY (id DESC))", "id", "20000 + g", []provenIndex{primary(part{"20000 + g", keysize.IntDescKeyBytes(20000)})}, true, big, ""},
	{"negative int", "CREATE TABLE %s (id INT8 PRIMARY KEY)", "id", "-300 - g", []provenIndex{primary(part{"-300 - g", 3})}, true, ints("id", -60000, -300), ""},
	{"points", "CREATE TABLE %s (id INT8 PRIMARY KEY DEFAULT unique_rowid(), x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)", "id, x, y, z", "1099511627776 + g, g::FLOAT8, g::FLOAT8, g::FLOAT8",
		[]provenIndex{primary(part{"1099511627776 + g", 7})}, true, ints("id", 1<<40, 1<<41), ""},
	{"composite", "CREATE TABLE %s (a INT8, b STRING, c BOOL, PRIMARY KEY (a, b DESC, c DESC))", "a, b, c", "20000 + g, 'abc', true",
		[]provenIndex{primary(id, part{"'abc'", keysize.StringKeyBytes("abc")}, part{"true", keysize.BoolKeyBytes(true)})}, false, nil, shortText},
	{"uuid", "CREATE TABLE %s (id UUID PRIMARY KEY)", "id", "('00eeddcc-0022-4334-8556-777777' || translate((100000 + g)::STRING, '0', 'a'))::UUID",
		[]provenIndex{primary(part{"('00eeddcc-0022-4334-8556-777777' || translate((100000 + g)::STRING, '0', 'a'))::UUID", 21})}, false, nil, fewZeros},
	{"bytes with zeros", "CREATE TABLE %s (id BYTES PRIMARY KEY)", "id", `b'\x00a\x00' || (10000 + g)::STRING::BYTES`,
		[]provenIndex{primary(part{`b'\x00a\x00' || (10000 + g)::STRING::BYTES`, keysize.BytesKeyBytes([]byte("\x00a\x0010001"))})}, false, nil, shortText},
	{"decimal", "CREATE TABLE %s (id DECIMAL(12,2) PRIMARY KEY)", "id", "100000.25:::DECIMAL + g", []provenIndex{primary(part{"(100000.25 + g)::DECIMAL", must(keysize.DecimalKeyBytes("100001.25", false))})}, false, nil, ""},
	{"negative small decimal descending", "CREATE TABLE %s (id DECIMAL, PRIMARY KEY (id DESC))", "id", "-(1000007 + 10 * g)::DECIMAL / 1e17", []provenIndex{primary(part{"-(1000007 + 10 * g)::DECIMAL / 1e17", must(keysize.DecimalKeyBytes("-1000017e-17", true))})}, false, nil, fewDigits},
	{"float", "CREATE TABLE %s (id FLOAT8 PRIMARY KEY)", "id", "g::FLOAT8 + 0.5", []provenIndex{primary(part{"g::FLOAT8 + 0.5", keysize.FloatKeyBytes(1.5)})}, false, nil, ""},
	{"date", "CREATE TABLE %s (id DATE, n INT8, PRIMARY KEY (id, n))", "id, n", "'2026-11-24'::DATE, 20000 + g", []provenIndex{primary(part{"'2026-11-24'::DATE", keysize.DateKeyBytes(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC).Unix()/86400, false)}, id)}, false, nil, ""},
	{"timestamp", "CREATE TABLE %s (id TIMESTAMP PRIMARY KEY)", "id", "'2026-11-24 10:00:00.25'::TIMESTAMP + g * '1 s'::INTERVAL",
		[]provenIndex{primary(part{"'2026-11-24 10:00:01.25'::TIMESTAMP", keysize.TimestampKeyBytes(1795514401, 250_000_000, false)})}, false, nil, ""},
	{"timestamptz descending, whole seconds", "CREATE TABLE %s (id TIMESTAMPTZ, PRIMARY KEY (id DESC))", "id", "'2026-11-24 10:00:00+02'::TIMESTAMPTZ + g * '1 s'::INTERVAL",
		[]provenIndex{primary(part{"'2026-11-24 10:00:01+02'::TIMESTAMPTZ", keysize.TimestampKeyBytes(1795507201, 0, true)})}, false, nil, ""},
	{"interval", "CREATE TABLE %s (id INTERVAL PRIMARY KEY)", "id", "'1 mon 2 days 03:00:00'::INTERVAL + g * '1 s'::INTERVAL",
		[]provenIndex{primary(part{"'1 mon 2 days 03:00:01'::INTERVAL", keysize.IntervalKeyBytes(1, 2, 3*3600e9+1e9, false)})}, false, nil, ""},
	{"interval descending", "CREATE TABLE %s (id INTERVAL, PRIMARY KEY (id DESC))", "id", "'1 mon 2 days 03:00:00'::INTERVAL + g * '1 s'::INTERVAL",
		[]provenIndex{primary(part{"'1 mon 2 days 03:00:01'::INTERVAL", keysize.IntervalKeyBytes(1, 2, 3*3600e9+1e9, true)})}, false, nil, ""},
	{"inet", "CREATE TABLE %s (a INET, b INET, n INT8, PRIMARY KEY (a, b DESC, n))", "a, b, n", "'10.0.1.2/24'::INET, '2001:db8::1'::INET, 20000 + g",
		[]provenIndex{primary(part{"'10.0.1.2/24'::INET", keysize.INetKeyBytes(netip.MustParsePrefix("10.0.1.2/24"))}, part{"'2001:db8::1'::INET", keysize.INetKeyBytes(netip.MustParsePrefix("2001:db8::1/128"))}, id)}, false, nil, fewZeros},
	{"time and timetz", "CREATE TABLE %s (a TIME, b TIMETZ, n INT8, PRIMARY KEY (a DESC, b, n))", "a, b, n", "'04:05:06.7'::TIME, '04:05:06.7-08:00'::TIMETZ, 20000 + g",
		[]provenIndex{primary(part{"'04:05:06.7'::TIME", keysize.TimeKeyBytes(14706700000, true)}, part{"'04:05:06.7-08:00'::TIMETZ", keysize.TimeTZKeyBytes(14706700000, 8*3600, false)}, id)}, false, ints("n", 20_000, 60_000), ""},
	{"timetz east, descending", "CREATE TABLE %s (b TIMETZ, n INT8, PRIMARY KEY (b DESC, n))", "b, n", "'04:05:06.7+05:30'::TIMETZ, 20000 + g",
		[]provenIndex{primary(part{"'04:05:06.7+05:30'::TIMETZ", keysize.TimeTZKeyBytes(14706700000, -(5*3600 + 1800), true)}, id)}, false, nil, ""},
	{"enum", "CREATE TYPE %s_color AS ENUM ('red', 'green'); CREATE TABLE %s (e %s_color, n INT8, PRIMARY KEY (e, n))", "e, n", "'green'::%s_color, 20000 + g",
		[]provenIndex{primary(part{"'green'::%s_color", keysize.BytesKeyBytes([]byte{0xc0})}, id)}, false, nil, ""},
	{"bit and varbit", "CREATE TABLE %s (a BIT(3), b VARBIT, n INT8, PRIMARY KEY (a, b DESC, n))", "a, b, n", "B'101'::BIT(3), repeat('1', 70)::VARBIT, 20000 + g",
		[]provenIndex{primary(part{"B'101'", keysize.BitKeyBytes("101", false)}, part{"repeat('1', 70)::VARBIT", keysize.BitKeyBytes(strings.Repeat("1", 70), true)}, id)}, false, nil, shortText},
	{"oid", "CREATE TABLE %s (o OID, n INT8, PRIMARY KEY (o, n))", "o, n", "100::OID, 20000 + g", []provenIndex{primary(part{"100::OID", 1}, id)}, false, nil, ""},
	{"hash-sharded", "CREATE TABLE %s (id INT8 PRIMARY KEY USING HASH WITH BUCKET_COUNT = 8)", "id", "20000 + g", []provenIndex{primary(part{"7", 1}, id)}, true, big, ""},
	{"secondary index", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8, s STRING, INDEX i (a), INDEX j (s, id DESC))", "id, a, s", "20000 + g, 5, 'text'",
		[]provenIndex{primary(id), index("i", part{"5", 1}, id), index("j", part{"'text'", 7}, part{"20000 + g", 3})}, false, big, shortText},
	{"secondary index over ints", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, INDEX i (a DESC))", "id, a", "20000 + g, 5",
		[]provenIndex{primary(id), index("i", part{"5", 2}, id)}, true, ints("id", 20000, 60000, "a", 0, 9), ""},
	{"unique index", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, UNIQUE INDEX u (a))", "id, a", "20000 + g, 20000 + g",
		[]provenIndex{primary(id), index("u", id)}, true, ints("id", 20000, 60000, "a", 20000, 60000), ""},
	{"unique index with NULL", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8, UNIQUE INDEX u (a))", "id, a", "20000 + g, NULL",
		[]provenIndex{primary(id), index("u", part{"", keysize.NullKeyBytes}, id)}, false, big, ""},
	{"families", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, b INT8, c INT8, FAMILY f0 (id, c), FAMILY f1 (a), FAMILY f2 (b))", "id, a, b, c", "20000 + g, 1, 2, 3",
		[]provenIndex{{name: "primary", parts: []part{id}, families: []int{0, 1, 2}}}, false, big, ""},
	{"an empty family", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, b INT8, c INT8, FAMILY f0 (id, c), FAMILY f1 (a), FAMILY f2 (b))", "id, a", "20000 + g, 1",
		[]provenIndex{{name: "primary", parts: []part{id}, families: []int{0, 1}}}, false, big, noEntry},
	{"families of NOT NULL columns", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, b INT8 NOT NULL, FAMILY f0 (id), FAMILY f1 (a), FAMILY f2 (b))", "id, a, b", "20000 + g, 1, 2",
		[]provenIndex{{name: "primary", parts: []part{id}, families: []int{0, 1, 2}}}, true, big, ""},
	{"a family of the key alone", "CREATE TABLE %s (id INT8, k INT8 NOT NULL, a INT8 NOT NULL, PRIMARY KEY (id, k), FAMILY f0 (a), FAMILY f1 (id, k))", "id, k, a", "20000 + g, 1, 1",
		[]provenIndex{primary(id, part{"1", 1})}, true, ints("id", 20000, 60000, "k", 0, 1), ""},
	{"STORING with families", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, b INT8 NOT NULL, FAMILY f0 (id), FAMILY f1 (a), FAMILY f2 (b), INDEX i (a) STORING (b))", "id, a, b", "20000 + g, 1, 2",
		[]provenIndex{{name: "primary", parts: []part{id}, families: []int{0, 1, 2}}, {name: "i", parts: []part{{"1", 1}, id}, families: []int{0, 2}}}, false, big, ""},
	{"STORING", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, b INT8 NOT NULL, INDEX i (a) STORING (b))", "id, a, b", "20000 + g, 1, 2",
		[]provenIndex{primary(id), index("i", part{"1", 1}, id)}, true, ints("id", 20000, 60000, "a", 0, 1), ""},
	{"partial index, rows inside", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, INDEX i (a) WHERE a > 0)", "id, a", "20000 + g, 1", []provenIndex{primary(id), index("i", part{"1", 1}, id)}, false, big, ""},
	{"partial index, rows outside", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, INDEX i (a) WHERE a > 0)", "id, a", "20000 + g, -1", []provenIndex{primary(id)}, false, big, noEntry},
	{"expression by a computed column", "CREATE TABLE %s (id INT8 PRIMARY KEY, s STRING, l STRING AS (upper(s)) VIRTUAL, INDEX i (l))", "id, s", "20000 + g, 'straight'",
		[]provenIndex{primary(id), index("i", part{"'STRAIGHT'", keysize.StringKeyBytes(upper("straight"))}, id)}, false, big, anyResult},
	{"inverted over an array", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8[], INVERTED INDEX i (a))", "id, a", "20000 + g, ARRAY[1, 300, 300, NULL]",
		[]provenIndex{primary(id), {name: "i", parts: []part{id}, elements: []int64{1, 3, 1}}}, false, big, noElements},
	{"inverted over JSON", "CREATE TABLE %s (id INT8 PRIMARY KEY, j JSONB, INVERTED INDEX i (j))", "id, j", `20000 + g, '{"a": [1, true], "b": "xyz"}'::JSONB`,
		// Marker; a + separator, [ + terminator + 1 or true; b + terminator + string.
		[]provenIndex{primary(id), {name: "i", parts: []part{id}, elements: []int64{1 + 3 + 2 + 2 + 3, 1 + 3 + 2 + 2 + 1, 1 + 1 + 2 + 6}}}, false, big, noElements},
	{"inverted over two columns", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, j JSONB, INVERTED INDEX i (a, j))", "id, a, j", `20000 + g, 300, '{"b": "xyz"}'::JSONB`,
		[]provenIndex{primary(id), {name: "i", parts: []part{{"300", 3}, id}, elements: []int64{1 + 1 + 2 + 6}}}, false, big, noElements},
	{"hash-sharded index", "CREATE TABLE %s (id INT8 PRIMARY KEY, a INT8 NOT NULL, INDEX i (a) USING HASH WITH BUCKET_COUNT = 8)", "id, a", "20000 + g, 300",
		[]provenIndex{primary(id), index("i", part{"7", 1}, part{"300", 3}, id)}, true, ints("id", 20000, 60000, "a", 300, 300), ""},
	{"box2d", "CREATE TABLE %s (b BOX2D, n INT8, PRIMARY KEY (b, n))", "b, n", "'BOX(1 2,3 4)'::BOX2D, 20000 + g", []provenIndex{primary(part{"'BOX(1 2,3 4)'::BOX2D", 1 + 4*9}, id)}, false, ints("n", 20_000, 60_000), ""},
	// The parent's ids, the parent's key, a marker; then the table's own.
	{"interleaved", "CREATE TABLE %s_up (id INT8 PRIMARY KEY); CREATE TABLE %s (id INT8, n INT8, PRIMARY KEY (id, n)) INTERLEAVE IN PARENT %s_up (id)", "id, n", "20000 + g, 5",
		[]provenIndex{primary(id, part{"5", 1 + 3})}, false, big, ""},
	{"no primary key", "CREATE TABLE %s (a INT8)", "a", "g", []provenIndex{primary(part{"unique_rowid()", 9})}, true, ints("rowid", 1<<58, math.MaxInt64), ""},
}

// A cluster's own transactions may condense too while the setting is low, so that a
// proof is repeated when the metric rose by too much.
const attempts = 4

// TestProof proves the sizes of keys on a live CockroachDB: by encode_key for each
// index, and by the row on which the coordinator condenses.
func TestProof(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	conn, watch := loadertest.Connect(t, url), loadertest.Connect(t, url)
	const budget = 32 << 10
	setBudget(t, watch, budget)
	info := infoOf(t, conn)
	unbuffered(t, conn)
	if !info.AtLeast(22, 1, 0) {
		exec(t, conn, "SET experimental_enable_hash_sharded_indexes = on")
	}
	if !info.AtLeast(21, 2, 0) {
		exec(t, conn, "SET CLUSTER SETTING sql.defaults.interleaved_tables.enabled = true")
	}
	// Ids above 109 take a byte more in each key than the recorded ones.
	exec(t, conn, "CREATE TABLE t_first (id INT8 PRIMARY KEY)")
	var first int64
	if err := conn.QueryRow(context.Background(), "SELECT 't_first'::REGCLASS::OID::INT8").Scan(&first); err != nil {
		t.Fatal(err)
	}
	if info.AtLeast(22, 2, 0) {
		burnIDs(t, conn) // its first table has one about there
	} else if first > 60 && !*record {
		loadertest.Skip(t, fmt.Sprintf("the server has had %d tables: go test -run TestProof ./loader/server begins with a new one", first))
	}
	recorded := readPlans(t, info.Version)
	limits := server.Limits(context.Background(), conn, info)
	var now []recordedPlan
	for i, p := range proofs {
		t.Run(p.name, func(t *testing.T) {
			if p.name == "interleaved" && info.AtLeast(21, 2, 0) {
				loadertest.Skip(t, "interleaved tables ended with CockroachDB 21.2")
			}
			r := p.prove(t, conn, watch, fmt.Sprintf("t%d", i), budget)
			r.Limits, r.Server = limits, info.String()
			now = append(now, r)
			if recorded != nil {
				r.check(t, recorded)
			}
		})
	}
	if *record {
		writePlans(t, info.Version, now)
	}
	burnIDs(t, conn)
	t.Run("table id above 109", func(t *testing.T) { proofs[0].prove(t, conn, watch, "above", budget) })
}

// unbuffered has the session's writes not buffered, where the server can: the keys of some
// would count less.
func unbuffered(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if infoOf(t, conn).AtLeast(25, 2, 0) {
		exec(t, conn, "SET kv_transaction_buffered_writes_enabled = off")
	}
}

// burnIDs takes the ids of tables up to 109. Those from 110 on have a second byte.
func burnIDs(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for i := 0; ; i++ {
		name := fmt.Sprintf("s%d", i)
		exec(t, conn, "CREATE SEQUENCE IF NOT EXISTS "+name)
		var oid int
		if err := conn.QueryRow(context.Background(), fmt.Sprintf("SELECT '%s'::REGCLASS::OID::INT8", name)).Scan(&oid); err != nil {
			t.Fatal(err)
		}
		if oid >= 109 {
			return
		}
	}
}

// TestProofAtTheDefault proves the points table under the default setting, over a
// range of ids in which the size of the key changes.
func TestProofAtTheDefault(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	conn, watch := loadertest.Connect(t, url), loadertest.Connect(t, url)
	exec(t, watch, "SET CLUSTER SETTING sql.stats.automatic_collection.enabled = false")
	exec(t, conn, "CREATE TABLE points (id INT8 PRIMARY KEY DEFAULT unique_rowid(), x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)")
	table := describe(t, conn, "points")
	info := infoOf(t, conn)
	unbuffered(t, conn)
	given := keysize.RowInfo{Major: info.Major, Minor: info.Minor}
	limit := intentLimit(t, conn)
	// Ids run up to and over 2^40, where a key grows from 6 to 7 bytes.
	const first = 1<<40 - 10_000
	rows := int64(sort.Search(int(limit.Max), func(n int) bool {
		sum, exact := table.Keys.SumIntentBytes(given, "id", first, int64(n)+1)
		if !exact {
			t.Fatal("the size of integer keys is not exact")
		}
		return sum > limit.Max
	}))
	t.Logf("%d rows fit %s, %d", rows, limit.Name, limit.Max)
	checkCliff(t, conn, watch, rows, func(n int64) string {
		return fmt.Sprintf("INSERT INTO points SELECT %d + g, g::FLOAT8, g::FLOAT8, g::FLOAT8 FROM generate_series(0, %d - 1) AS g", int64(first), n)
	})
}

func (p proof) prove(t *testing.T, conn, watch *pgx.Conn, name string, budget int64) recordedPlan {
	ctx := context.Background()
	exec(t, conn, strings.ReplaceAll(p.ddl, "%s", name))
	table := describe(t, conn, name)
	info := infoOf(t, conn)
	p.values = strings.ReplaceAll(p.values, "%s", name)
	var perRow, kvs int64
	for _, x := range p.indexes {
		i := tableIndex(t, table, x.name)
		size := keysize.PrefixBytes(0, int64(table.OID), i.ID)
		var exprs []string
		null := false
		for _, part := range x.parts {
			size += part.size
			exprs = append(exprs, strings.ReplaceAll(part.sql, "%s", name))
			null = null || part.sql == ""
		}
		// 1. The server's own encoding of the key, which has no family.
		if x.elements == nil && !null {
			if i.Unique && !i.Primary {
				exprs = exprs[:len(i.Columns)]
			}
			var got int64
			q := fmt.Sprintf("SELECT length(crdb_internal.encode_key(%d, %d, ROW(%s))) FROM generate_series(1, 1) AS g", table.OID, i.ID, strings.Join(exprs, ", "))
			if err := conn.QueryRow(ctx, q).Scan(&got); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			if got != size {
				t.Errorf("index %s: the server's key is %d bytes, predicted %d", x.name, got, size)
			}
		}
		switch {
		case x.elements != nil:
			for _, e := range x.elements {
				perRow += size + e + keysize.FamilySuffixBytes(0)
				kvs++
			}
		case x.families == nil:
			perRow += size + keysize.FamilySuffixBytes(0)
			kvs++
		default:
			for _, f := range x.families {
				perRow += size + keysize.FamilySuffixBytes(f)
				kvs++
			}
		}
	}
	// 2. What the described table says is that size, or a bound of it. The record is that of a file.
	insert := func(n int64) string {
		return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM generate_series(1, %d) AS g", name, p.columns, p.values, n)
	}
	record, elements := recordOf(t, conn, name, p.columns, insert(1))
	given := keysize.RowInfo{Major: info.Major, Minor: info.Minor, Ints: p.ints, MaxRecordBytes: record, MaxElements: elements}
	cost := table.Keys.Cost(given)
	bytes, pairs := cost.Use(chunker.IntentBytes, 1, record), cost.Use(chunker.KVs, 1, record)
	overhead := info.AtLeast(22, 2, 0) // the server counts what is around a key as well
	if p.exact && (bytes != perRow && !overhead || pairs != kvs || !cost.Exact) {
		t.Errorf("described as %d bytes in %d pairs (exact: %v), want exactly %d in %d", bytes, pairs, cost.Exact, perRow, kvs)
	}
	if !p.exact && (bytes < perRow || pairs < kvs || cost.Exact) {
		t.Errorf("described as %d bytes in %d pairs (exact: %v), want a bound of %d in %d", bytes, pairs, cost.Exact, perRow, kvs)
	}
	// 3. The row on which the coordinator condenses.
	rows := (budget - 1) / perRow
	switch {
	case !overhead:
		checkCliff(t, conn, watch, rows, insert)
	case p.exact:
		perRow = bytes
		rows = (budget - 1) / perRow
		checkCliff(t, conn, watch, rows, insert)
	default:
		rows = findCliff(t, conn, watch, (budget-1)/bytes, budget/(kvs*48), insert)
		perRow = (budget + rows) / (rows + 1) // at least
		checkBound(t, p.name, bytes, rows, budget, p.loose)
	}
	return recordedPlan{
		Name: p.name, DDL: strings.ReplaceAll(p.ddl, "%s", "t"), Schema: table.Keys, RowInfo: given, RecordBytes: record,
		Bytes: perRow, KVs: kvs, Exact: cost.Exact, Budget: budget, Rows: rows,
	}
}

// TestBoundOfJSON loads documents whose paths repeat the most of their text: a
// transaction of as many rows as the bound allows is not condensed.
func TestBoundOfJSON(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	conn, watch := loadertest.Connect(t, url), loadertest.Connect(t, url)
	const budget = 48 << 10
	setBudget(t, watch, budget)
	exec(t, conn, "CREATE TABLE t (id INT8 PRIMARY KEY, j JSONB, INVERTED INDEX i (j))")
	table, info := describe(t, conn, "t"), infoOf(t, conn)
	numbers := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint(i)
		}
		return strings.Join(list, ",")
	}
	for name, doc := range map[string]string{
		"a long name above numbers": `{"` + strings.Repeat("n", 120) + `":[` + numbers(40) + `]}`,
		"brackets above numbers":    strings.Repeat("[", 50) + numbers(40) + strings.Repeat("]", 50),
		"names above names":         strings.Repeat(`{"a":`, 30) + "[" + numbers(30) + "]" + strings.Repeat("}", 30),
		"fractions":                 `[0.1,-2.5e-7,3.25e80,1e-300]`,
		"text":                      `{"k":"` + strings.Repeat("x", 200) + `"}`,
		"small":                     `{"a":1}`,
		"flat":                      `{"a":1,"b":"xyz","c":true,"d":null,"e":[],"f":{}}`,
	} {
		for _, elements := range []int64{0, int64(strings.Count(doc, ",")) + 1} {
			record := int64(len(doc))
			cost := table.Keys.Cost(keysize.RowInfo{Major: info.Major, Minor: info.Minor, MaxRecordBytes: record, MaxElements: elements})
			rows := (budget - 1) / cost.Use(chunker.IntentBytes, 1, record)
			if rows < 1 {
				t.Fatalf("%s: the bound of one row of %d bytes is %d", name, record, cost.Use(chunker.IntentBytes, 1, record))
			}
			raised := func(n int64) int64 {
				return raisedBy(t, conn, watch, fmt.Sprintf("INSERT INTO t SELECT g, '%s'::JSONB FROM generate_series(1, %d) AS g", doc, n))
			}
			ok := false
			for range attempts { // the cluster's own transactions may condense too
				ok = ok || raised(rows) == 0
			}
			if !ok {
				t.Errorf("%s: %d rows condense, with a bound of %d bytes each", name, rows, cost.Use(chunker.IntentBytes, 1, record))
			}
		}
	}
}
