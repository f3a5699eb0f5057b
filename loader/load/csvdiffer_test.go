package load_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// strictly reads a file of commas by RFC 4180, one character after the other. It shares no code
// with the scanner: it is what the loads are compared with.
func strictly(text string) (rows []string) {
	var values []*string
	field := func(s string, quoted bool) {
		if !quoted && s == "" {
			values = append(values, nil)
		} else {
			values = append(values, &s)
		}
	}
	for at := 0; at < len(text); {
		var b strings.Builder
		quoted := text[at] == '"'
		if quoted {
			for at++; ; at++ {
				if text[at] == '"' {
					if at+1 == len(text) || text[at+1] != '"' {
						at++
						break
					}
					at++
				}
				b.WriteByte(text[at])
			}
		} else {
			for at < len(text) && text[at] != ',' && text[at] != '\n' && !strings.HasPrefix(text[at:], "\r\n") {
				b.WriteByte(text[at])
				at++
			}
		}
		field(b.String(), quoted)
		switch {
		case at < len(text) && text[at] == ',':
			if at++; at == len(text) || text[at] == '\n' || strings.HasPrefix(text[at:], "\r\n") {
				field("", false)
			} else {
				continue
			}
		}
		at += len("\r\n")
		if at-2 < len(text) && text[at-2] == '\n' {
			at--
		}
		rows = append(rows, show(values))
		values = nil
	}
	return rows
}

// dirt returns records of three fields with quotes, CRs, delimiters and ends of lines in all
// places where they may be. The first field is never empty, and in quotes where a line within
// could be taken for a record.
func dirt(r *rand.Rand, n int) string {
	pieces := []string{`"`, `""`, ",", "\n", "\r", "\r\n", " ", "a", "é", `\`, `\.`, "x", "'", ";", "\t"}
	var b strings.Builder
	b.WriteString("id,a,b")
	for i := range n {
		b.WriteString([]string{"\n", "\r\n"}[r.IntN(2)])
		fmt.Fprintf(&b, "%d", i)
		for range 2 {
			var f strings.Builder
			for range r.IntN(6) {
				f.WriteString(pieces[r.IntN(len(pieces))])
			}
			switch s := f.String(); {
			case r.IntN(2) == 0 || strings.ContainsAny(s, ",\n"):
				b.WriteString(`,"` + strings.ReplaceAll(s, `"`, `""`) + `"`)
			default:
				// A quote in front opens a field; a CR at the end of a line is a part of it.
				b.WriteString("," + strings.TrimRight(strings.TrimLeft(s, `"`), "\r"))
			}
		}
	}
	b.WriteString("\n")
	return b.String()
}

// TestDirtIsReadStrictly compares loads of generated files, by any size of chunks, with what a
// reader reads that shares nothing with them.
func TestDirtIsReadStrictly(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for seed := range uint64(6) {
			r := rand.New(rand.NewPCG(seed, 17))
			text := dirt(r, 400)
			want := strictly(text)[1:]
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
			req := fileRequest("t", write(t, "dirt.csv", text))
			req.Settings = load.Settings{Chunk: int64(1 + r.IntN(300)), Workers: 2}
			if req.Method = commit.Insert; s.Product == server.PostgreSQL && seed%3 > 0 {
				req.Method = commit.Copy
			}
			filesOf(req).Quote = '"' // also where lines within quotes may be records
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			l.Close()
			checkRows(t, table(t, url, "SELECT id::TEXT, a, b FROM t"), want)
			if t.Failed() {
				t.Fatalf("seed %d: %d bytes, %d with quotes", seed, len(text), bytes.Count([]byte(text), []byte(`"`)))
			}
		}
	})
}
