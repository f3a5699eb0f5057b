package load_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/loadertest"
)

// copied returns what PostgreSQL's COPY reads in a file; ok is false where it refuses
// the file.
func copied(conn *pgx.Conn, d csv.Dialect, text string, width int) (list []string, ok bool) {
	ctx := context.Background()
	columns := make([]string, width)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%d", i)
	}
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS pg_temp.f; CREATE TEMP TABLE f (n SERIAL, "+strings.Join(columns, " TEXT, ")+" TEXT)"); err != nil {
		panic(err)
	}
	escape := d.Escape
	if escape == 0 {
		escape = d.Quote
	}
	quoted := func(s string) string { return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	sql := fmt.Sprintf("COPY f (%s) FROM STDIN (FORMAT csv, DELIMITER %s, QUOTE %s, ESCAPE %s, NULL %s)",
		strings.Join(columns, ", "), quoted(string(rune(d.Delimiter))), quoted(string(rune(d.Quote))), quoted(string(rune(escape))), quoted(d.Null))
	if _, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(text), sql); err != nil {
		return nil, false
	}
	found, err := conn.Query(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM f ORDER BY n")
	if err != nil {
		panic(err)
	}
	list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		values, targets := make([]*string, width), make([]any, width)
		for i := range values {
			targets[i] = &values[i]
		}
		err := row.Scan(targets...)
		return show(values), err
	})
	if err != nil {
		panic(err)
	}
	return list, true
}

// FuzzRecordsAreThoseOfCopy holds that what PostgreSQL's COPY takes is read in the same way here,
// where no quote stands within a field: other texts do not go to it as they are.
func FuzzRecordsAreThoseOfCopy(f *testing.F) {
	for _, text := range []string{
		"a,b\nc,d\n", "a,\"b\"\r\n\"c\",\r\n", "\"a\"\"b\",\"c\nd\"\n", "a\"b,c\"d,e\n", ",\"\"\n", "a\rb\r", "\n\n", "\"\\\"\",x\n",
		"N,\"N\"\n", "  a  ,\" b \"\n", "é,\u2028\n", "\"a\"b\"c\",d\n", "\\.,a\n", "a,b", "\"a\n\"\"\r\nb\",c\nd,e",
	} {
		f.Add(text, byte(','), byte('"'), byte('"'), "")
		f.Add(strings.ReplaceAll(text, ",", ";"), byte(';'), byte('"'), byte('\\'), "N")
		f.Add(strings.NewReplacer(",", "\t", `"`, "'").Replace(text), byte('\t'), byte('\''), byte('\''), "")
	}
	s := loadertest.PostgreSQLServer(f)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.NewDatabase(f))
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close(ctx)
	var mu sync.Mutex
	f.Fuzz(func(t *testing.T, text string, delimiter, quote, escape byte, null string) {
		d := csv.Dialect{Delimiter: delimiter, Quote: quote, Escape: escape, Null: null, CR: !strings.Contains(text, "\n")}
		if (&files.CSV{Dialect: d}).Rewrites([]byte(text)) {
			t.Skip()
		}
		if d.Check() != nil || quote == 0 || strings.Contains(text, `\.`) {
			// Up to 17 a line of \. ends the data of COPY, also within a file.
			t.Skip()
		}
		mu.Lock()
		defer mu.Unlock()
		records := files.Records([]byte(text), true, d, math.MaxInt64)
		if len(records) == 0 || len(records[0]) > 50 {
			t.Skip()
		}
		want, ok := copied(conn, d, text, len(records[0]))
		if !ok {
			t.Skip()
		}
		var got []string
		for _, r := range records {
			values := make([]*string, len(r))
			for i := range r {
				if !r[i].Null {
					v := string(r[i].Text)
					values[i] = &v
				}
			}
			got = append(got, show(values))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: of %q got %s, and COPY reads %s", d, text, got, want)
		}
	})
}
