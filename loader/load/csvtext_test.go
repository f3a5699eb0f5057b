package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// copiedRows returns rows of every character that COPY escapes, their values as table shows
// them, and a file of them written by the rules of PostgreSQL's manual.
func copiedRows(n int) (values [][]any, want []string, text string) {
	r := rand.New(rand.NewPCG(7, 7))
	pieces := []string{"a", "é", `\`, `\N`, `\.`, "\t", "\n", "\r", "\r\n", "\b", "\f", "\v", `"`, ",", "N", ".", "x41", "101", " "}
	escapes := strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\b", `\b`, "\f", `\f`, "\v", `\v`)
	var b strings.Builder
	for i := range n {
		shown := []*string{new(string)}
		*shown[0] = fmt.Sprint(i)
		row := []any{i}
		fmt.Fprint(&b, i)
		for range 2 {
			if r.IntN(5) == 0 {
				shown, row = append(shown, nil), append(row, nil)
				b.WriteString("\t\\N")
				continue
			}
			var v strings.Builder
			for range r.IntN(6) {
				v.WriteString(pieces[r.IntN(len(pieces))])
			}
			s := v.String()
			shown, row = append(shown, &s), append(row, s)
			b.WriteString("\t" + escapes.Replace(s))
		}
		b.WriteString("\n")
		values, want = append(values, row), append(want, show(shown))
	}
	return values, want, b.String()
}

// TestCopyTextIsReadAsItsWritersMeanIt loads what COPY TO writes: each value comes back, for any
// size of chunks, from a file and from a stream, behind a stop, and with bad records set aside.
func TestCopyTextIsReadAsItsWritersMeanIt(t *testing.T) {
	values, want, text := copiedRows(1500)
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		ctx := context.Background()
		if s.Product == server.PostgreSQL {
			// The file above is what the server writes.
			loadertest.Exec(t, url, "CREATE TABLE written (id INT8, a TEXT, b TEXT)")
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			if _, err := conn.CopyFrom(ctx, pgx.Identifier{"written"}, []string{"id", "a", "b"}, pgx.CopyFromRows(values)); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if _, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM written ORDER BY id) TO STDOUT"); err != nil || out.String() != text {
				t.Fatalf("COPY TO writes another file, %v", err)
			}
		}
		var gz bytes.Buffer
		gw := gzip.NewWriter(&gz)
		gw.Write([]byte(text))
		gw.Close()
		ready := func(name, text string) load.Request {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
			req := fileRequest("t", write(t, name, text))
			filesOf(req).CopyText = true
			return req
		}
		arrived := func() []string { return table(t, url, "SELECT id::TEXT, a, b FROM t") }
		for _, c := range []struct {
			name, text string
			set        load.Settings
		}{
			{"plain", text, load.Settings{}},
			{"small", text + "\\.\n", load.Settings{Chunk: 7, Workers: 2}},
			{"insert", text, load.Settings{Chunk: 501, Method: commit.Insert}},
			{"crlf", strings.ReplaceAll(text, "\n", "\r\n") + "\\.\r\n\r\n", load.Settings{Chunk: 100}},
			{"stream", gz.String(), load.Settings{Chunk: 90, Workers: 2}},
		} {
			req := ready("x.txt", c.text)
			req.Settings = c.set
			l := newLoad(t, url, req)
			if res, err := l.Run(ctx); err != nil || res.Rows != 1500 {
				t.Fatalf("%s: %d rows, %v", c.name, res.Rows, err)
			}
			l.Close()
			checkRows(t, arrived(), slices.Clone(want))
		}
		// A load that is stopped goes on.
		req := ready("x.gz", gz.String())
		stop, chunks := make(chan struct{}), 0
		req.Chunk, req.Workers, req.Stop = 50, 2, stop
		req.Observe = func(loader.Event) {
			if chunks++; chunks == 4 {
				close(stop)
			}
		}
		l := newLoad(t, url, req)
		if res, err := l.Run(ctx); !errors.Is(err, loader.ErrStopped) || res.Rows == 1500 {
			t.Fatalf("%d rows, %v; want a part, and ErrStopped", res.Rows, err)
		}
		l.Close()
		resume(t, url, l, load.Settings{})
		checkRows(t, arrived(), slices.Clone(want))
		// A table is made without a header.
		loadertest.Exec(t, url, "DROP TABLE t")
		req = fileRequest("t", write(t, "new.txt", "a\tx\\ny\nb\t\\N\n"))
		filesOf(req).CopyText, filesOf(req).CreateTable = true, true
		if _, err := newLoad(t, url, req).Run(ctx); err != nil {
			t.Fatal(err)
		}
		checkRows(t, table(t, url, "SELECT col1, col2 FROM t"), []string{`"a"|"x\ny"|`, `"b"|NULL|`})
		// Bad records are set aside as they were; text behind the end of the data is one of them.
		bad := "1\tp\tq\nx\\ty\tc\td\n2\te\n\\.\n3\tf\\\ng\t\\N\n4\th\ti\\"
		req = ready("bad.txt", bad)
		if _, err := newLoad(t, url, req).Run(ctx); err == nil {
			t.Error("a bad record was loaded")
		}
		req = ready("bad.txt", bad)
		filesOf(req).MaxErrors.Records = 4
		l = newLoad(t, url, req)
		if res, err := l.Run(ctx); err != nil || res.Rejected != 4 {
			t.Fatalf("%d rejects, %v", res.Rejected, err)
		}
		checkRows(t, arrived(), []string{`"1"|"p"|"q"|`, `"3"|"f\ng"|NULL|`})
		got := map[int64]string{}
		if err := l.EachReject(ctx, func(r rows.Reject) error { got[r.Line] = string(r.Record); return nil }); err != nil {
			t.Fatal(err)
		}
		for line, record := range map[int64]string{2: "x\\ty\tc\td\n", 3: "2\te\n", 4: "\\.\n", 7: "4\th\ti\\"} {
			if got[line] != record {
				t.Errorf("line %d was kept as %q, want %q", line, got[line], record)
			}
		}
	})
}
