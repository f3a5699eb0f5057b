package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// textForms are types with values that come back as they went in. cockroach and
// postgres name the type there; empty is a server without it.
var textForms = []struct{ postgres, cockroach, value string }{
	{"BIGINT", "INT8", "-9223372036854775808"},
	{"SMALLINT", "INT2", "32767"},
	{"INTEGER", "INT4", "-2147483648"},
	{"NUMERIC", "DECIMAL", "12345678901234567890.0123456789"},
	{"NUMERIC(10,2)", "DECIMAL(10,2)", "-0.05"},
	{"DOUBLE PRECISION", "FLOAT8", "1.5e+308"},
	{"DOUBLE PRECISION", "FLOAT8", "NaN"},
	{"REAL", "FLOAT4", "0.5"},
	{"BOOLEAN", "BOOL", "true"},
	{"TEXT", "STRING", "a\tb\\N\\\\ \"q\" 'x' \u00e9 \U0001f600\r\nnew line"},
	{"VARCHAR(20)", "VARCHAR(20)", "twenty characters ok"},
	{"CHARACTER(3)", "CHAR(3)", "abc"},
	{"BYTEA", "BYTES", `\x00ff5c0a22`},
	{"DATE", "DATE", "0001-01-01"},
	{"TIME", "TIME", "23:59:59.999999"},
	{"TIMETZ", "TIMETZ", "12:00:00+05:30"},
	{"TIMESTAMP", "TIMESTAMP", "2019-03-31 02:30:00.123456"},
	{"TIMESTAMPTZ", "TIMESTAMPTZ", "2019-03-31 02:30:00.5+00"},
	{"INTERVAL", "INTERVAL", "1 year 2 mons 3 days 04:05:06.7"},
	{"UUID", "UUID", "123e4567-e89b-12d3-a456-426614174000"},
	{"INET", "INET", "192.168.0.0/16"},
	{"JSONB", "JSONB", `{"a": [1, 2.50, null], "b\"": "\\ \n"}`},
	{"JSON", "", `{"a":1,  "a":2}`},
	{"BIT(5)", "BIT(5)", "10110"},
	{"VARBIT", "VARBIT", "101"},
	{"BIGINT[]", "INT8[]", "{1,NULL,-3}"},
	{"TEXT[]", "STRING[]", `{a,"b,c","d\"e",""}`},
	{"NUMERIC[]", "DECIMAL[]", "{1.50,-2}"},
	{"mood", "mood", "very happy"},
	{"MONEY", "", "$1,234.50"},
	{"CIDR", "", "10.0.0.0/8"},
	{"MACADDR", "", "08:00:2b:01:02:03"},
	{"POINT", "", "(1.5,-2)"},
	{"INT4RANGE", "", "[1,10)"},
	{"TSVECTOR", "", "'a':1 'b':2"},
	{"XML", "", "<a>b</a>"},
	{"NAME", "NAME", "some name"},
	{"OID", "OID", "4294967295"},
	{"", `STRING COLLATE en`, "collated"},
}

// shownOtherwise is how CockroachDB prints values whose zone it writes in full, up to
// some version before 26.1.
var shownOtherwise = map[string]string{
	"12:00:00+05:30":           "12:00:00+05:30:00",
	"2019-03-31 02:30:00.5+00": "2019-03-31 02:30:00.5+00:00",
}

func TestEveryTypeWithATextFormComesBack(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TYPE mood AS ENUM ('sad', 'very happy')")
		var columns, names, texts []string
		var record strings.Builder
		var want []*string
		for _, f := range textForms {
			typ := f.postgres
			if s.Product == server.CockroachDB {
				typ = f.cockroach
			}
			if typ == "" {
				continue
			}
			name := fmt.Sprintf("c%d", len(columns))
			columns, names = append(columns, name+" "+typ), append(names, name)
			texts = append(texts, name+"::TEXT")
			if len(columns) > 1 {
				record.WriteByte(',')
			}
			record.WriteString(`"` + strings.ReplaceAll(f.value, `"`, `""`) + `"`)
			shown := f.value
			if other, ok := shownOtherwise[f.value]; ok && s.Product == server.CockroachDB && !loadertest.Open(t, url).AtLeast(26, 1, 0) {
				shown = other
			}
			want = append(want, &shown)
		}
		nulls := strings.Repeat(",", len(columns)-1)
		path := write(t, "types.csv", record.String()+"\n"+nulls+"\n")
		for _, via := range []commit.Method{commit.Insert, commit.Copy} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (n SERIAL, "+strings.Join(columns, ", ")+")")
			req := fileRequest("t", path)
			req.Method, filesOf(req).Columns = via, names
			if via == commit.Copy && s.Product == server.CockroachDB {
				// Its COPY would change the escapes of some types.
				_, err := load.New(context.Background(), loadertest.Open(t, url), req)
				var refused *load.TableError
				if !errors.As(err, &refused) {
					t.Errorf("%s: got %v, want it refused", via, err)
				}
				continue
			}
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Errorf("%s: %v", via, err)
				continue
			}
			got := table(t, url, "SELECT "+strings.Join(texts, ", ")+" FROM t WHERE c0 IS NOT NULL")
			if len(got) != 1 {
				t.Fatalf("%s: %d rows", via, len(got))
			}
			for i, value := range strings.SplitAfter(got[0], "|") {
				if i < len(want) && !strings.Contains(got[0], show(want[i:i+1])) {
					t.Errorf("%s: %s holds something else than %q: %s", via, columns[i], *want[i], value)
				}
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t WHERE "+strings.Join(names, " IS NULL AND ")+" IS NULL"); n != 1 {
				t.Errorf("%s: %d rows of NULLs, want 1", via, n)
			}
		}
	})
}
