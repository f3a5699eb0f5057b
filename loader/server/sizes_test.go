package server_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkload/chunker/keysize"
	"bulkload/loader/loadertest"
)

// A valueKind is a type with random values of it: the text that the server casts to
// the type, and the size that is predicted, or -1 where only a bound is.
type valueKind struct {
	sql   string
	draw  func(r *rand.Rand, desc bool) (text string, size int64)
	fixed []string // values at the ends of the type, checked against the bound only
}

// number returns a number of random length and sign.
func number(r *rand.Rand) int64 {
	return int64(r.Uint64()>>r.IntN(64)) * int64(1-2*r.IntN(2))
}

func sizeOfInt(v int64, desc bool) int64 {
	if desc {
		return keysize.IntDescKeyBytes(v)
	}
	return keysize.IntKeyBytes(v)
}

var valueKinds = []valueKind{
	{"INT8", func(r *rand.Rand, desc bool) (string, int64) {
		v := number(r)
		return strconv.FormatInt(v, 10), sizeOfInt(v, desc)
	}, []string{"0", "-1", "9223372036854775807", "-9223372036854775808"}},
	{"INT4", func(r *rand.Rand, desc bool) (string, int64) {
		v := int64(int32(number(r)))
		return strconv.FormatInt(v, 10), sizeOfInt(v, desc)
	}, []string{"2147483647", "-2147483648"}},
	{"INT2", func(r *rand.Rand, desc bool) (string, int64) {
		v := int64(int16(number(r)))
		return strconv.FormatInt(v, 10), sizeOfInt(v, desc)
	}, []string{"32767", "-32768"}},
	{"BOOL", func(r *rand.Rand, desc bool) (string, int64) {
		return strconv.FormatBool(r.IntN(2) == 0), keysize.BoolKeyBytes(desc)
	}, nil},
	{"FLOAT8", func(r *rand.Rand, desc bool) (string, int64) {
		f := []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), r.NormFloat64(), 1}[r.IntN(7)]
		return strconv.FormatFloat(f, 'g', -1, 64), keysize.FloatKeyBytes(f)
	}, nil},
	{"DECIMAL", func(r *rand.Rand, desc bool) (string, int64) {
		v := number(r)
		text := fmt.Sprintf("%de%d", v, r.IntN(80)-40)
		size, err := keysize.DecimalKeyBytes(text, desc)
		if err != nil {
			panic(err)
		}
		return text, size
	}, []string{"NaN", "Infinity", "-Infinity", "1e300", "-1e-300", "0"}},
	{"DECIMAL(12,2)", func(r *rand.Rand, desc bool) (string, int64) {
		v := number(r) % 1e12
		text := fmt.Sprintf("%s%d.%02d", map[bool]string{true: "-"}[v < 0], max(v, -v)/100, max(v, -v)%100)
		size, err := keysize.DecimalKeyBytes(text, desc)
		if err != nil {
			panic(err)
		}
		return text, size
	}, []string{"9999999999.99", "-0.01"}},
	{"DATE", func(r *rand.Rand, desc bool) (string, int64) {
		days := number(r) % 100_000
		return time.Unix(days*86400, 0).UTC().Format("2006-01-02"), keysize.DateKeyBytes(days, desc)
	}, []string{"infinity", "-infinity", "5874897-12-31", "4714-11-24 BC"}},
	{"TIME", func(r *rand.Rand, desc bool) (string, int64) {
		us := r.Int64N(86400e6)
		return time.UnixMicro(us).UTC().Format("15:04:05.999999"), keysize.TimeKeyBytes(us, desc)
	}, []string{"00:00:00", "24:00:00"}},
	{"TIMETZ", func(r *rand.Rand, desc bool) (string, int64) {
		us, west := r.Int64N(86400e6), 60*(r.IntN(2*15*60)-15*60)
		zone := fmt.Sprintf("%s%02d:%02d", map[bool]string{true: "-", false: "+"}[west > 0], max(west, -west)/3600, max(west, -west)/60%60)
		return time.UnixMicro(us).UTC().Format("15:04:05.999999") + zone, keysize.TimeTZKeyBytes(us, int32(west), desc)
	}, []string{"24:00:00-15:59", "00:00:00+15:59", "00:00:00+00:00"}},
	{"TIMESTAMP", func(r *rand.Rand, desc bool) (string, int64) {
		at := time.UnixMicro(number(r) % 1e17).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			at = time.UnixMicro(0).UTC()
		}
		return at.Format("2006-01-02 15:04:05.999999"), keysize.TimestampKeyBytes(at.Unix(), int64(at.Nanosecond()), desc)
	}, []string{"294276-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC", "1970-01-01 00:00:00"}},
	{"INTERVAL", func(r *rand.Rand, desc bool) (string, int64) {
		months, days, us := number(r)%1000, number(r)%1000, number(r)%1e12
		return fmt.Sprintf("%d mons %d days %d microseconds", months, days, us), keysize.IntervalKeyBytes(months, days, us*1000, desc)
	}, []string{"290 years", "-290 years 300 days", "0 s", "100000 days -3000 mons"}},
	{"UUID", func(r *rand.Rand, desc bool) (string, int64) {
		var u [16]byte
		for i := range u {
			u[i] = byte(r.IntN(4))
		}
		return hex.EncodeToString(u[:]), keysize.UUIDKeyBytes(u)
	}, []string{"00000000-0000-0000-0000-000000000000"}},
	{"INET", func(r *rand.Rand, desc bool) (string, int64) {
		raw := make([]byte, []int{4, 16}[r.IntN(2)])
		for i := range raw {
			raw[i] = byte(r.IntN(3))
		}
		addr, _ := netip.AddrFromSlice(raw)
		p := netip.PrefixFrom(addr, r.IntN(8*len(raw)+1))
		return p.String(), keysize.INetKeyBytes(p)
	}, []string{"::/0", "0.0.0.0/0", "::ffff:1.2.3.4"}},
	{"VARBIT", func(r *rand.Rand, desc bool) (string, int64) {
		b := make([]byte, r.IntN(200))
		digits := []string{"0", "1", "01", "0000000001"}[r.IntN(4)] // words of zeros are short
		for i := range b {
			b[i] = digits[r.IntN(len(digits))]
		}
		return string(b), keysize.BitKeyBytes(string(b), desc)
	}, []string{"", strings.Repeat("0", 64), strings.Repeat("1", 129)}},
	{"BIT(70)", func(r *rand.Rand, desc bool) (string, int64) {
		text := strings.Repeat([]string{"1", "0"}[r.IntN(2)], 64) + strings.Repeat("1", 6)
		return text, keysize.BitKeyBytes(text, desc)
	}, nil},
	{"STRING", func(r *rand.Rand, desc bool) (string, int64) {
		text := strings.Repeat("é\x00", r.IntN(20))
		return text, keysize.StringKeyBytes(text)
	}, []string{""}},
	{"VARCHAR(3)", func(r *rand.Rand, desc bool) (string, int64) {
		text := string([]rune("𝄞é漢z")[:r.IntN(4)])
		return text, keysize.StringKeyBytes(text)
	}, []string{"𝄞𝄞𝄞"}},
	{"BYTES", func(r *rand.Rand, desc bool) (string, int64) {
		b := make([]byte, r.IntN(30))
		for i := range b {
			b[i] = byte(r.IntN(3))
		}
		return `\x` + hex.EncodeToString(b), keysize.BytesKeyBytes(b)
	}, []string{`\x`, `\x` + strings.Repeat("00", 50)}},
	{"OID", func(r *rand.Rand, desc bool) (string, int64) {
		v := int64(uint32(number(r)))
		return strconv.FormatInt(v, 10), sizeOfInt(v, desc)
	}, []string{"0", "4294967295"}},
	{"STRING COLLATE en", func(r *rand.Rand, desc bool) (string, int64) {
		runes := make([]rune, r.IntN(20))
		for i := range runes {
			runes[i] = []rune("aZ \u0301é漢𝄞ﷺ1-")[r.IntN(10)]
		}
		return string(runes), -1
	}, []string{"", "ﷺﷺﷺﷺ", "a b c", strings.Repeat("𝄞", 20), strings.Repeat("\u0301", 20)}},
}

// TestSizesOfRandomValues compares the predicted size of random values of every type,
// ascending and descending, with the server's own encoding; and the column's bound
// with both them and the ends of the type.
func TestSizesOfRandomValues(t *testing.T) {
	loadertest.Slow(t) // two tables for each type
	conn := connect(t, loadertest.CockroachServer(t))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for n, kind := range valueKinds {
		for _, direction := range []string{"ASC", "DESC"} {
			t.Run(kind.sql+" "+direction, func(t *testing.T) {
				name := fmt.Sprintf("t%d%s", n, direction)
				exec(t, conn, fmt.Sprintf("CREATE TABLE %s (v %s, PRIMARY KEY (v %s))", name, kind.sql, direction))
				table := describe(t, conn, name)
				prefix := keysize.PrefixBytes(0, int64(table.OID), table.Indexes[0].ID)
				var texts []string
				var sizes []int64
				for range 300 {
					text, size := kind.draw(r, direction == "DESC")
					texts, sizes = append(texts, text), append(sizes, size)
				}
				for _, text := range kind.fixed {
					texts, sizes = append(texts, text), append(sizes, -1)
				}
				cast := "v::" + kind.sql
				if strings.Contains(kind.sql, "COLLATE") {
					cast = "v COLLATE en"
				}
				rows, err := conn.Query(context.Background(), fmt.Sprintf("SELECT length(crdb_internal.encode_key(%d, %d, ROW(%s))) FROM unnest($1::STRING[]) WITH ORDINALITY AS u(v, i) ORDER BY i", table.OID, table.Indexes[0].ID, cast), texts)
				if err != nil {
					t.Fatal(err)
				}
				defer rows.Close()
				column := table.Keys.Indexes[0].Columns[0]
				i := 0
				for ; rows.Next(); i++ {
					var got int64
					if err := rows.Scan(&got); err != nil {
						t.Fatal(err)
					}
					got -= prefix
					if sizes[i] >= 0 && got != sizes[i] {
						t.Errorf("%s takes %d bytes, predicted %d", texts[i], got, sizes[i])
					}
					// Size bounds text without zero bytes; each takes one more.
					zeros := int64(strings.Count(texts[i], "\x00"))
					if bound := column.Size().For(int64(len(texts[i]))) + zeros; got > bound {
						t.Errorf("%s takes %d bytes, more than the bound %d of its column", texts[i], got, bound)
					}
				}
				if err := rows.Err(); err != nil || i != len(texts) {
					t.Fatalf("%d of %d values encoded: %v", i, len(texts), err)
				}
			})
		}
	}
}
