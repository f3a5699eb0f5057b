package loadertest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Table names what CheckTable compares.
type Table struct {
	Name    pgx.Identifier
	Key     string   // integer column; empty means id. It need not be unique.
	Columns []string // the other columns, in the order of the expected values
	Where   string   // SQL condition; empty means every row
}

// A Diff is how a table differs from the rows that were expected.
type Diff struct {
	Rows, WantRows int // rows
	Keys, WantKeys int // distinct keys

	Missing int // rows expected whose key the table lacks, or has less often
	Twice   int // rows too many of an expected key
	Foreign int // rows whose key is not expected
	Wrong   int // rows of an expected key with other values

	// Checksum is that of the table's rows in the order of their keys; two
	// tables with the same rows have the same one.
	Checksum, WantChecksum string

	First []string // the first few differences in words
}

// OK reports whether the table holds exactly the rows that were expected.
func (d Diff) OK() bool {
	return d.Missing == 0 && d.Twice == 0 && d.Foreign == 0 && d.Wrong == 0 &&
		d.Rows == d.WantRows && d.Checksum == d.WantChecksum
}

// String returns the figures and the first differences, one a line.
func (d Diff) String() string {
	if d.OK() {
		return fmt.Sprintf("%d rows as expected", d.Rows)
	}
	return fmt.Sprintf("%d rows, want %d; %d distinct keys, want %d: %d missing, %d twice, %d foreign, %d wrong\n  %s",
		d.Rows, d.WantRows, d.Keys, d.WantKeys, d.Missing, d.Twice, d.Foreign, d.Wrong, strings.Join(d.First, "\n  "))
}

// maxDifferences is how many differences a Diff tells in words.
const maxDifferences = 10

// tableTimeout bounds a comparison: a lock left behind must not hang the tests.
const tableTimeout = 2 * time.Minute

// CheckTable fails the test unless the table holds exactly the rows that want
// yields, each as its key and the values of the other columns, in any order:
// none lost, none twice, none with other values, no others. Values are int64,
// float64 (compared exactly), string, bool, []byte, nil for NULL, or what pgx
// returns for the column's type. It returns the table's checksum.
func CheckTable(t testing.TB, url string, table Table, want iter.Seq2[int64, []any]) string {
	t.Helper()
	d, err := CompareTable(url, table, want)
	if err != nil {
		t.Fatalf("check table: %v", err)
	}
	if !d.OK() {
		t.Errorf("table %s: %v", table.Name.Sanitize(), d)
	}
	return d.Checksum
}

// A row is a key and the values of the other columns, in comparable form.
type row struct {
	key    int64
	values string
}

// CompareTable is CheckTable for a control that must find a difference.
func CompareTable(url string, table Table, want iter.Seq2[int64, []any]) (Diff, error) {
	// 1. The expected rows, in the order of their keys.
	var wanted []row
	for key, values := range want {
		if len(values) != len(table.Columns) {
			return Diff{}, fmt.Errorf("row %d: %d values for %d columns", key, len(values), len(table.Columns))
		}
		wanted = append(wanted, row{key, inWords(values)})
	}
	slices.SortStableFunc(wanted, compareRows)
	d := Diff{WantRows: len(wanted), WantChecksum: checksum(wanted)}

	// 2. The table's rows.
	found, err := readTable(url, table)
	if err != nil {
		return Diff{}, err
	}
	d.Rows, d.Checksum = len(found), checksum(found)

	// 3. Key by key.
	for len(found) > 0 || len(wanted) > 0 {
		var key int64
		switch {
		case len(wanted) == 0 || len(found) > 0 && found[0].key < wanted[0].key:
			key = found[0].key
		default:
			key = wanted[0].key
		}
		var have, should []row
		have, found = take(found, key)
		should, wanted = take(wanted, key)
		d.compare(key, have, should)
	}
	return d, nil
}

// compare adds the differences of one key's rows.
func (d *Diff) compare(key int64, have, should []row) {
	if len(have) > 0 {
		d.Keys++
	}
	if len(should) > 0 {
		d.WantKeys++
	}
	tell := func(format string, args ...any) {
		if len(d.First) < maxDifferences {
			d.First = append(d.First, fmt.Sprintf(format, args...))
		}
	}
	// What agrees is out of the way first; both sides are in order.
	var other, lacking []row
	for len(have) > 0 || len(should) > 0 {
		switch {
		case len(should) == 0 || len(have) > 0 && have[0].values < should[0].values:
			other, have = append(other, have[0]), have[1:]
		case len(have) == 0 || have[0].values > should[0].values:
			lacking, should = append(lacking, should[0]), should[1:]
		default:
			have, should = have[1:], should[1:]
			if len(should) == 0 && len(have) > 0 {
				for _, r := range have {
					d.Twice++
					tell("key %d: once more than expected: %s", key, r.values)
				}
				have = nil
			}
		}
	}
	for i, r := range other {
		switch {
		case i < len(lacking):
			d.Wrong++
			tell("key %d: %s, want %s", key, r.values, lacking[i].values)
		default:
			d.Foreign++
			tell("key %d: not expected: %s", key, r.values)
		}
	}
	for _, r := range lacking[min(len(other), len(lacking)):] {
		d.Missing++
		tell("key %d: missing: %s", key, r.values)
	}
}

// readTable returns the rows of the table in order.
func readTable(url string, table Table) ([]row, error) {
	key := table.Key
	if key == "" {
		key = "id"
	}
	columns := pgx.Identifier{key}.Sanitize()
	for _, c := range table.Columns {
		columns += ", " + pgx.Identifier{c}.Sanitize()
	}
	sql := "SELECT " + columns + " FROM " + table.Name.Sanitize()
	if table.Where != "" {
		sql += " WHERE " + table.Where
	}
	ctx, cancel := context.WithTimeout(context.Background(), tableTimeout)
	defer cancel()
	var found []row
	err := withConn(ctx, url, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, sql)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				return err
			}
			key, ok := plain(values[0]).(int64)
			if !ok {
				return fmt.Errorf("key %v is %T, want an integer", values[0], values[0])
			}
			found = append(found, row{key, inWords(values[1:])})
		}
		return rows.Err()
	})
	slices.SortStableFunc(found, compareRows)
	return found, err
}

func compareRows(a, b row) int {
	if a.key != b.key {
		if a.key < b.key {
			return -1
		}
		return 1
	}
	return strings.Compare(a.values, b.values)
}

// take splits the rows of key off the front.
func take(rows []row, key int64) (of, rest []row) {
	n := 0
	for n < len(rows) && rows[n].key == key {
		n++
	}
	return rows[:n], rows[n:]
}

// plain returns integers as int64 and floats as float64, so that a column's width does not
// matter, nor whether integers are kept as decimals.
func plain(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int16:
		return int64(v)
	case int32:
		return int64(v)
	case float32:
		return float64(v)
	case pgtype.Numeric:
		if n, err := v.Int64Value(); err == nil && n.Valid {
			return n.Int64
		}
	}
	return v
}

// inWords returns values such that equal values, and only these, give equal text.
func inWords(values []any) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		switch v := plain(v).(type) {
		case nil:
			b.WriteString("NULL")
		case string:
			fmt.Fprintf(&b, "%q", v)
		case []byte:
			fmt.Fprintf(&b, "%#x", v)
		default:
			fmt.Fprint(&b, v) // of a float64 the shortest text that gives the same bits
		}
	}
	return b.String()
}

// checksum returns a hash over the rows as they are ordered.
func checksum(rows []row) string {
	h := sha256.New()
	for _, r := range rows {
		fmt.Fprintf(h, "%d: %s\n", r.key, r.values)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}
