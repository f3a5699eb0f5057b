package keysize_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

func checkSize(t *testing.T, what string, got, want int64) {
	t.Helper()
	if got != want {
		t.Errorf("%s takes %d bytes, want %d", what, got, want)
	}
}

// TestKeySizesAtTheirSteps holds each size at both sides of where it changes.
func TestKeySizesAtTheirSteps(t *testing.T) {
	for _, x := range []struct{ v, asc, desc int64 }{
		{0, 1, 2}, {1, 1, 2}, {109, 1, 2}, {110, 2, 2}, {254, 2, 2}, {255, 2, 3}, {256, 3, 3},
		{1<<16 - 2, 3, 3}, {1<<16 - 1, 3, 4}, {1 << 16, 4, 4}, {1<<40 - 1, 6, 7}, {1 << 40, 7, 7}, {1<<48 - 1, 7, 8}, {1 << 48, 8, 8},
		{1<<53 - 1, 8, 8}, {1<<56 - 1, 8, 9}, {math.MaxInt64, 9, 9},
		{-1, 2, 1}, {-110, 2, 1}, {-111, 2, 2}, {-255, 2, 2}, {-256, 3, 2}, {-257, 3, 3}, {-1<<16 + 1, 3, 3}, {-1 << 16, 4, 3}, {math.MinInt64, 9, 9},
	} {
		checkSize(t, "an ascending int", keysize.IntKeyBytes(x.v), x.asc)
		checkSize(t, "a descending int", keysize.IntDescKeyBytes(x.v), x.desc)
	}
	for text, want := range map[string]int64{"": 3, "abc": 6, "a\x00b": 7, "\x00\x00": 7, "é": 5} {
		checkSize(t, "a string", keysize.StringKeyBytes(text), want)
		checkSize(t, "bytes", keysize.BytesKeyBytes([]byte(text)), want)
	}
	for f, want := range map[float64]int64{0: 1, math.Copysign(0, -1): 1, math.NaN(): 1, 1: 9, -1: 9, math.Inf(1): 9} {
		checkSize(t, "a float", keysize.FloatKeyBytes(f), want)
	}
	for text, want := range map[string][2]int64{
		"0": {1, 1}, "-0.00": {1, 1}, "NaN": {1, 1}, "-Infinity": {1, 1},
		"1": {3, 3}, "99": {3, 3}, "100": {3, 3}, "101": {4, 4}, "0.5": {3, 3}, "0.05": {3, 3}, "0.005": {5, 4}, "-0.005": {4, 5},
		"1e19": {3, 3}, "1e20": {4, 5}, "-1e20": {5, 4}, "1e300": {5, 5}, "1e-300": {5, 5}, "1.10": {4, 4}, "12345678901": {8, 8},
	} {
		for i, desc := range []bool{false, true} {
			got, err := keysize.DecimalKeyBytes(text, desc)
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			checkSize(t, "decimal "+text, got, want[i])
		}
	}
	for _, text := range []string{"", "-", ".", "1e", "1x", "e5", "1.2.3", "0x10"} {
		if n, err := keysize.DecimalKeyBytes(text, false); err == nil {
			t.Errorf("decimal %q takes %d bytes, want an error", text, n)
		}
	}
	for text, want := range map[string]int64{"10.1.2.3/32": 10, "0.0.0.0/0": 15, "::/0": 38, "2001:db8::1/128": 21 + 11} {
		checkSize(t, text, keysize.INetKeyBytes(netip.MustParsePrefix(text)), want)
	}
	for bits, want := range map[string][2]int64{
		"": {3, 3}, "1": {12, 13}, strings.Repeat("1", 64): {12, 13}, strings.Repeat("1", 65): {21, 22}, strings.Repeat("0", 64): {4, 5},
	} {
		checkSize(t, "bits "+bits, keysize.BitKeyBytes(bits, false), want[0])
		checkSize(t, "descending bits "+bits, keysize.BitKeyBytes(bits, true), want[1])
	}
	for family, want := range map[int]int64{0: 1, 1: 2, 109: 2, 110: 3, 256: 4} {
		checkSize(t, "a family", keysize.FamilySuffixBytes(family), want)
	}
	for _, x := range []struct {
		tenant       uint64
		table, index int64
		want         int64
	}{{0, 53, 1, 2}, {1, 109, 109, 2}, {0, 110, 1, 3}, {0, 256, 110, 5}, {2, 53, 1, 4}, {110, 53, 1, 5}} {
		checkSize(t, "a prefix", keysize.PrefixBytes(x.tenant, x.table, x.index), x.want)
	}
}

// TestSpansOfNewServers has the sizes that were measured on CockroachDB 26.1: the budget of
// 32 KiB, by the rows that did not condense. Keys of 3 bytes of prefix, as with a table id
// of two bytes.
func TestSpansOfNewServers(t *testing.T) {
	s := keysize.Schema{TenantID: 1, TableID: 110, Columns: 2, Indexes: []keysize.Index{{ID: 1, Primary: true, Columns: []keysize.KeyColumn{keysize.ColumnOf("id", "INT8")}}}}
	for _, x := range []struct {
		major, minor int
		want         int64
	}{{21, 1, 11}, {22, 1, 11}, {22, 2, 72}, {26, 1, 72}, {0, 0, 72}} {
		cost := s.Cost(keysize.RowInfo{Major: x.major, Minor: x.minor, Ints: map[string]keysize.IntRange{"id": {First: 1 << 40, Last: 1<<48 - 1}}})
		checkSize(t, fmt.Sprintf("a point's key on %d.%d", x.major, x.minor), cost.IntentBytes, x.want)
		if !cost.Exact {
			t.Errorf("%d.%d: not exact", x.major, x.minor)
		}
	}
	// Text is bounded by twice its length.
	s.Indexes[0].Columns = []keysize.KeyColumn{keysize.ColumnOf("s", "STRING")}
	for length, measured := range map[int64]int64{13: 64, 16: 64, 17: 80, 20: 72, 24: 72, 28: 80, 32: 80, 36: 96, 40: 96, 48: 96, 52: 112, 60: 112, 68: 128, 76: 128, 92: 144, 112: 160, 140: 192, 172: 224} {
		if got := s.Cost(keysize.RowInfo{Major: 26, Minor: 1}).Use(chunker.IntentBytes, 1, length-7); got < measured {
			t.Errorf("a key of %d bytes: got %d, less than the %d that were measured", length, got, measured)
		}
	}
}

// TestPointsAreExact holds the table of points, whose ids the loader draws.
func TestPointsAreExact(t *testing.T) {
	s := keysize.Schema{TenantID: 1, TableID: 60, Indexes: []keysize.Index{{ID: 1, Primary: true, Columns: []keysize.KeyColumn{keysize.ColumnOf("id", "INT8")}}}}
	given := keysize.RowInfo{Major: 21, Minor: 1}
	for _, first := range []int64{0, 100, 1<<16 - 500, 1 << 40, 1<<48 - 999, 1<<53 - 1000} {
		var want int64
		for i := range int64(1000) {
			want += 3 + keysize.IntKeyBytes(first+i)
		}
		got, exact := s.SumIntentBytes(given, "id", first, 1000)
		if got != want || !exact {
			t.Errorf("from %d: got %d bytes (exact: %v), want %d exactly", first, got, exact, want)
		}
		given.Ints = map[string]keysize.IntRange{"id": {First: first, Last: first + 999}}
		if cost := s.Cost(given); cost.Use(chunker.IntentBytes, 1000, 0) < want || cost.Exact != (cost.Use(chunker.IntentBytes, 1000, 0) == want) {
			t.Errorf("from %d: got %+v for %d bytes", first, cost, want)
		}
	}
}

// TestCostOfSchemas holds what the parts of a schema add, golden.
func TestCostOfSchemas(t *testing.T) {
	id := keysize.KeyColumn{Name: "id", Kind: keysize.KeyUUID} // 35
	text := keysize.ColumnOf("s", "STRING")                    // 3 + 1 a byte
	other := keysize.ColumnOf("u", "text")
	null := keysize.KeyColumn{Name: "n", Kind: keysize.KeyInt, Width: 4, Nullable: true} // 5
	with := func(x ...keysize.Index) keysize.Schema {
		return keysize.Schema{TableID: 60, Indexes: append([]keysize.Index{{ID: 1, Primary: true, Columns: []keysize.KeyColumn{id}}}, x...)}
	}
	families := with()
	families.Families = []keysize.Family{{ID: 0, Columns: []string{"id"}}, {ID: 1, Columns: []string{"a"}, NotNull: true}, {ID: 3, Columns: []string{"b"}}}
	tenant, unknown := with(), keysize.Schema{Indexes: with().Indexes}
	tenant.TenantID = 300
	unknown.Indexes[0].ID = 0
	for _, test := range []struct {
		name                    string
		s                       keysize.Schema
		g                       keysize.RowInfo
		kvs, bytes, per, copies int64
	}{
		{"a primary key", with(), keysize.RowInfo{Major: 21, Minor: 1}, 1, 38, 0, 0},
		{"with the overhead of 22.2", with(), keysize.RowInfo{Major: 22, Minor: 2}, 1, 48 + 80, 0, 0},
		{"a secondary index", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{text}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 3 + 35, 1, 0},
		{"two texts share the record", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{text, other}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 6 + 35, 1, 0},
		{"two indexes do not", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{text}}, keysize.Index{ID: 3, Columns: []keysize.KeyColumn{text}}), keysize.RowInfo{Major: 21}, 3, 38 + 2*41, 2, 0},
		{"a unique index", with(keysize.Index{ID: 2, Unique: true, Columns: []keysize.KeyColumn{{Name: "n", Kind: keysize.KeyFloat}}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 9, 0, 0},
		{"a unique index over NULLs", with(keysize.Index{ID: 2, Unique: true, Columns: []keysize.KeyColumn{null}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 5 + 35, 0, 0},
		{"the key's own column in an index", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{null, id}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 5 + 35, 0, 0},
		{"an index id above 109", with(keysize.Index{ID: 110, Columns: []keysize.KeyColumn{null}}), keysize.RowInfo{Major: 21}, 2, 38 + 4 + 5 + 35, 0, 0},
		{"families", families, keysize.RowInfo{Major: 21}, 3, 38 + 39 + 39, 0, 0},
		{"a tenant", tenant, keysize.RowInfo{Major: 21}, 1, 38 + 4, 0, 0},
		{"unknown ids", unknown, keysize.RowInfo{Major: 21}, 1, 38 + 4 + 2, 0, 0},
		{"an expression is a guess", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{{Kind: keysize.KeyString, Computed: true}}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 67 + 35, 3, 0},
		{"a default is one too", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{text}}), keysize.RowInfo{Major: 21, Absent: []string{"s"}}, 2, 38 + 3 + 67 + 35, 3, 0},
		{"STORING", with(keysize.Index{ID: 2, Columns: []keysize.KeyColumn{null}, Storing: []string{"s"}}), keysize.RowInfo{Major: 21}, 2, 38 + 3 + 5 + 35, 0, 1},
	} {
		c := test.s.Cost(test.g)
		if c.KVs != test.kvs || c.IntentBytes != test.bytes || c.IntentPerByte != test.per || c.ValueCopies != test.copies {
			t.Errorf("%s: got %d pairs, %d bytes and %d a byte, %d copies; want %d, %d, %d, %d", test.name, c.KVs, c.IntentBytes, c.IntentPerByte, c.ValueCopies, test.kvs, test.bytes, test.per, test.copies)
		}
		if c.Guess != (test.per == 3) {
			t.Errorf("%s: got guess %v", test.name, c.Guess)
		}
	}
}

func TestColumnOf(t *testing.T) {
	for text, want := range map[string]keysize.KeyColumn{
		"INT8": {Kind: keysize.KeyInt}, "integer": {Kind: keysize.KeyInt, Width: 4}, "INT2": {Kind: keysize.KeyInt, Width: 2}, "bigint": {Kind: keysize.KeyInt},
		"STRING(7)": {Kind: keysize.KeyString, Width: 7}, "character varying(20)": {Kind: keysize.KeyString, Width: 20}, "CHAR": {Kind: keysize.KeyString, Width: 1},
		"STRING(7) COLLATE en": {Kind: keysize.KeyCollated}, "INT8[]": {Kind: keysize.KeyArray, Elem: keysize.KeyInt}, "DECIMAL(10,2)": {Kind: keysize.KeyDecimal, Width: 10},
		"numeric(10,2)": {Kind: keysize.KeyDecimal, Width: 10}, "timestamp(3) without time zone": {Kind: keysize.KeyTimestamp}, "TIMETZ(6)": {Kind: keysize.KeyTimeTZ},
		"bit varying(9)": {Kind: keysize.KeyBit, Width: 9}, "BIT": {Kind: keysize.KeyBit, Width: 1}, "VARBIT": {Kind: keysize.KeyBit}, "JSONB": {Kind: keysize.KeyJSON},
		"GEOMETRY(POINT,4326)": {Kind: keysize.KeyGeo}, "public.color": {Kind: keysize.KeyOther}, `"char"`: {Kind: keysize.KeyString, Width: 1},
	} {
		want.Name, want.Nullable = "c", true
		if got := keysize.ColumnOf("c", text); got != want {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

// FuzzKeySizes holds that ranges sum up, that a number is as long descending as its
// opposite ascending, that the way a decimal is written does not matter, and that no
// value is longer than the size of its column.
func FuzzKeySizes(f *testing.F) {
	f.Add(int64(0), int64(300), "abc", "1.10")
	f.Add(int64(-70000), int64(2), "\x00", "-123e-40")
	f.Add(int64(math.MaxInt64-5), int64(5), "é", "99999999999999999999.5")
	f.Fuzz(func(t *testing.T, v, count int64, text, decimal string) {
		count = max(count%500, -count%500)
		if v > math.MaxInt64-count {
			v -= count
		}
		for _, desc := range []bool{false, true} {
			size := keysize.IntKeyBytes
			if desc {
				size = keysize.IntDescKeyBytes
			}
			var sum int64
			least, most := int64(math.MaxInt64), int64(0)
			for i := range count {
				n := size(v + i)
				sum, least, most = sum+n, min(least, n), max(most, n)
			}
			checkSize(t, "a range", keysize.SumIntKeyBytes(v, count, desc), sum)
			if count > 0 {
				a, b := keysize.IntKeyBytesIn(v, v+count-1, desc)
				checkSize(t, "the least of a range", a, least)
				checkSize(t, "the most of a range", b, most)
			}
			if c := (keysize.KeyColumn{Kind: keysize.KeyInt, Desc: desc}); size(v) > c.Size().Bytes {
				t.Errorf("int %d is longer than its column", v)
			}
			n, err := keysize.DecimalKeyBytes(decimal, desc)
			if err != nil || len(decimal) > 100 {
				continue
			}
			if c := (keysize.KeyColumn{Kind: keysize.KeyDecimal, Desc: desc}); n > c.Size().For(int64(len(decimal))) {
				t.Errorf("decimal %s takes %d bytes, more than its column", decimal, n)
			}
			opposite, found := strings.CutPrefix(decimal, "-")
			if !found {
				opposite = "-" + strings.TrimPrefix(decimal, "+")
			}
			if o, err := keysize.DecimalKeyBytes(opposite, !desc); err == nil {
				checkSize(t, "the opposite of "+decimal, o, n)
			}
			if whole, exp, ok := strings.Cut(decimal, "e"); !ok && strings.Contains(whole, ".") {
				longer, err := keysize.DecimalKeyBytes(decimal+"00"+exp, desc)
				if err == nil {
					checkSize(t, decimal+" with zeros behind it", longer, n)
				}
			}
		}
		s := keysize.KeyColumn{Kind: keysize.KeyString}.Size()
		if n := keysize.StringKeyBytes(text); n > s.For(int64(len(text)))+int64(strings.Count(text, "\x00")) {
			t.Errorf("string %q takes %d bytes, more than its column", text, n)
		}
	})
}
