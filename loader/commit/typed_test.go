package commit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// typedSeeds are texts of each type that is sent in binary form, and texts that are almost such.
var typedSeeds = map[string][]string{
	"INT8":        {"0", "-1", "7", "999999999999999999", "-999999999999999999", "9223372036854775807", "007", "010", "+7", "-0", " 7", "7 ", "1_000", "0x10", "1e3", "", "-", "٣"},
	"INT2":        {"0", "32767", "-32768", "32768", "-32769"},
	"FLOAT8":      {"0", "-0", "-0.0", "1.5", "1e3", "1E-3", "1.7976931348623157e308", "1e309", "2.2250738585072014e-308", "4.9e-324", "1e-400", "0e-400", "0.1234567890123456789", "9007199254740993", "1.", ".5", "NaN", "inf", "Infinity", "1_0.5", "0x1p3", "1e", "e5", "-", ".", "123456789012345678901234567890"},
	"BOOL":        {"true", "false", "t", "f", "TRUE", "yes", "1", "tru", ""},
	"UUID":        {"123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174000", "{123e4567-e89b-12d3-a456-426614174000}", "123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"},
	"DATE":        {"2000-01-01", "1999-12-31", "2024-02-29", "2023-02-29", "0002-01-01", "9998-12-31", "0001-01-01", "2000-1-1", "20000101", "2000-13-01", "01-02-2000", "2000-01-01 BC", "infinity", "1582-10-10", "1900-02-29"},
	"TIMESTAMP":   {"2000-01-01 00:00:00", "1969-12-31T23:59:59.999999", "2024-02-29 12:34:56.1", "2024-02-29 12:34:56.1234567", "2024-02-29 24:00:00", "2024-02-29 12:34:60", "2024-02-29 12:34", "2024-02-29", "2024-02-29 12:34:56Z", "2024-02-29 12:34:56.", "epoch", "now"},
	"TIMESTAMPTZ": {"2000-01-01 00:00:00Z", "2000-01-01 00:00:00+00", "2024-02-29 12:34:56.789+05:30", "0002-01-01 00:00:00+14", "2024-02-29T12:34:56-14:59", "2024-02-29 12:34:56", "2024-02-29 12:34:56+5", "2024-02-29 12:34:56+0530", "2024-02-29 12:34:56 UTC", "2024-02-29 12:34:56 +01", "2024-02-29 12:34:56+01:30:10", "9998-12-31 23:59:59.999999-14"},
}

// typedColumn returns the accepted ones of texts as a column, and the texts.
func typedColumn(typ string, texts []string) (v *rows.Values, taken []string) {
	chunk := func() *rows.Chunk { return rows.NewChunk([]rows.Column{{Name: "c", Kind: rows.Text, Type: typ}}) }
	one, all := chunk(), chunk()
	for _, text := range texts {
		one.Reset(one.Span, 1)
		one.Col(0).AppendText([]byte(text))
		if _, _, ok := commit.Typed(one.Col(0)); ok {
			all.Col(0).AppendText([]byte(text))
			taken = append(taken, text)
		}
	}
	all.Col(0).AppendNull()
	return all.Col(0), append(taken, "NULL")
}

// checkTyped fails the test unless the server's own cast of each text gives the very value that is
// sent in its place.
func checkTyped(t *testing.T, conn *pgx.Conn, typ string, texts []string) int {
	t.Helper()
	v, taken := typedColumn(typ, texts)
	array, param, ok := commit.Typed(v)
	if !ok {
		t.Fatalf("%s: the texts are taken one by one, and not together", typ)
	}
	// Text comparison too: -0 equals 0.
	sql := fmt.Sprintf(`SELECT n::INT8 FROM unnest($1::TEXT[], $2::%s) WITH ORDINALITY AS x (text, value, n)
		WHERE NOT (CAST(text AS %s) IS NOT DISTINCT FROM CAST(value AS %[2]s) AND CAST(CAST(text AS %[2]s) AS TEXT) IS NOT DISTINCT FROM CAST(CAST(value AS %[2]s) AS TEXT)) ORDER BY n`, array, typ)
	found, err := conn.Query(context.Background(), sql, v, param)
	var bad []int64
	if err == nil {
		bad, err = pgx.CollectRows(found, pgx.RowTo[int64])
	}
	if err != nil {
		t.Errorf("%s: the server refuses what is sent as a value: %v; of %d texts, %q first", typ, err, len(taken), taken[0])
	}
	for _, n := range bad {
		t.Errorf("%s: the server casts %q to another value than the one that is sent", typ, taken[n-1])
	}
	return len(taken) - 1
}

// TestTypedValuesAreTheServers compares the values that are sent in place of texts with the
// server's casts of the texts: those that look strange, and many made of parts of them.
func TestTypedValuesAreTheServers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		conn := loadertest.Connect(t, s.NewDatabase(t))
		commit.Prepare(conn)
		for _, zone := range []string{"UTC", "America/New_York", "Asia/Kolkata"} {
			if _, err := conn.Exec(context.Background(), "SET TIME ZONE '"+zone+"'"); err != nil {
				t.Fatal(err)
			}
			for typ, seeds := range typedSeeds {
				texts := append([]string(nil), seeds...)
				random := rand.New(rand.NewPCG(21, 1))
				for range 3000 {
					texts = append(texts, mutated(random, seeds))
				}
				if n := checkTyped(t, conn, typ, texts); n < 3 {
					t.Errorf("%s: only %d texts are sent as values", typ, n)
				}
			}
		}
	})
}

// mutated returns a text made of parts of the seeds, with some characters changed.
func mutated(random *rand.Rand, seeds []string) string {
	const letters = "0123456789-+.:eE TZtf"
	a, b := seeds[random.IntN(len(seeds))], seeds[random.IntN(len(seeds))]
	text := []byte(a)
	if random.IntN(3) == 0 {
		text = append([]byte(a[:random.IntN(len(a)+1)]), b[random.IntN(len(b)+1):]...)
	}
	for range random.IntN(4) {
		if len(text) == 0 {
			break
		}
		switch at := random.IntN(len(text)); random.IntN(4) {
		case 0:
			text = append(text[:at], text[at+1:]...)
		case 1:
			text = append(text[:at], append([]byte{letters[random.IntN(len(letters))]}, text[at:]...)...)
		default:
			if text[at]-'0' <= 9 {
				text[at] = byte('0' + random.IntN(10))
			}
		}
	}
	return strings.ToValidUTF8(strings.ReplaceAll(string(text), "\x00", ""), "")
}

// FuzzTypedValues hands texts of the fuzzer to both servers.
func FuzzTypedValues(f *testing.F) {
	for typ, seeds := range typedSeeds {
		for _, text := range seeds {
			f.Add(typ, text)
		}
	}
	f.Fuzz(func(t *testing.T, typ, text string) {
		if _, ok := typedSeeds[typ]; !ok || !strings.EqualFold(strings.ToValidUTF8(text, ""), text) || strings.Contains(text, "\x00") {
			t.Skip()
		}
		if _, taken := typedColumn(typ, []string{text}); len(taken) == 1 {
			t.Skip() // it is sent as text
		}
		loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
			conn := loadertest.Connect(t, s.NewDatabase(t))
			commit.Prepare(conn)
			checkTyped(t, conn, typ, []string{text})
		})
	})
}
