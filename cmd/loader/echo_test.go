package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/tracelog"

	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// echoed returns the line that one traced event becomes.
func echoed(t *testing.T, what string, data map[string]any) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	(&echo{out: w}).Log(context.Background(), tracelog.LogLevelInfo, what, data)
	w.Close()
	b := make([]byte, 64<<10)
	n, _ := r.Read(b)
	return string(b[:n])
}

func TestEchoShowsNoSecret(t *testing.T) {
	canary := loadertest.NewCanary()
	plain, quoted := canary.PlainPassword(), strings.ReplaceAll(canary.Password(), "'", "''")
	for _, sql := range []string{
		"CREATE USER maxroach WITH PASSWORD '" + quoted + "'",
		"ALTER ROLE maxroach PASSWORD E'" + strings.ReplaceAll(plain, "a", "a''") + "'",
		"alter user maxroach\n\twith  password = '" + plain + "'",
		"IMPORT INTO t (a) CSV DATA ('s3://bucket/f.csv?AWS_ACCESS_KEY_ID=x&AWS_SECRET_ACCESS_KEY=" + plain + "')",
		"IMPORT INTO t (a) CSV DATA ('azure://c/f?AZURE_ACCOUNT_KEY=" + plain + "&AZURE_ACCOUNT_NAME=n')",
		"IMPORT INTO t (a) CSV DATA ('gs://b/f?CREDENTIALS=" + plain + "', 'http://user:" + plain + "@host/f.csv')",
		"SELECT 'postgres://u:" + plain + "@h/d'",
		"IMPORT INTO t (a) CSV DATA ('https://host/f.csv?X-Amz-Credential=a%2Fb&X-Amz-Signature=" + plain + "', 'https://host/g.csv?sig=" + plain + "')",
	} {
		canary.Check(t, "the echo of "+sql[:12], echoed(t, "Query", map[string]any{"sql": sql, "time": time.Millisecond}))
		failure := map[string]any{"sql": "SELECT 1", "err": errors.New("near " + sql)}
		canary.Check(t, "the echo of an error", echoed(t, "Query", failure))
	}
	canary.Check(t, "the echo of arguments", echoed(t, "Query", map[string]any{
		"sql": "UPDATE u SET password = $1", "args": []any{canary.Password()},
	}))
	canary.Check(t, "the echo of a URL", echoed(t, "Query", map[string]any{
		"sql": "INSERT INTO f VALUES ($1)", "args": []any{"http://u:" + plain + "@h"},
	}))
}

// What a terminal acts on may be in the name of a column.
func TestEchoShowsNoControlCharacters(t *testing.T) {
	got := echoed(t, "Query", map[string]any{"sql": "SELECT \"a\x1b[2J\u202eb\"", "err": errors.New("column \"\x1b\"")})
	if strings.ContainsAny(got, "\x1b\u202e") {
		t.Errorf("got %q", got)
	}
}

func TestEchoIsShort(t *testing.T) {
	long := strings.Repeat("é", 500)
	ids := &rows.Values{Column: rows.Column{Kind: rows.Int}, Ints: []int64{1, 2, 3, 4, 5}}
	got := echoed(t, "Query", map[string]any{
		"sql": "INSERT  INTO t\n\tVALUES ($1, $2, $3, $4)", "args": []any{ids, []string{long}, long, nil},
		"commandTag": "INSERT 0 5", "time": 1500 * time.Microsecond,
	})
	short := strings.Repeat("é", maxArgument) + "…"
	want := "echo:    1.50 ms  INSERT INTO t VALUES ($1, $2, $3, $4)  [{1, 2, 3, … 5 values}, {" + short + "}, '" + short + "', NULL]  -> INSERT 0 5\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := echoed(t, "Query", map[string]any{"sql": strings.Repeat("x", 5000)}); len(got) > maxSQL+60 {
		t.Errorf("a statement of 5000 bytes gives %d", len(got))
	}
}
