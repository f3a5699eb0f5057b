package load_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
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

// plainly reads a file of commas without quotes.
func plainly(text string) (rows []string) {
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		var values []*string
		for _, v := range strings.Split(line, ",") {
			if v == "" {
				values = append(values, nil)
			} else {
				values = append(values, &v)
			}
		}
		rows = append(rows, show(values))
	}
	return rows
}

// TestDirtWithoutOneReading loads generated files in which one record is wrong: text follows its
// closing quote, or its quote is closed only in a later record. The load ends with its line,
// whatever the size of chunks, and only rows of other records are in; the flags that say what is
// meant give what the independent readers read.
func TestDirtWithoutOneReading(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		srv := loadertest.Open(t, url)
		seeds := uint64(4)
		if s.Product == server.CockroachDB {
			seeds = 2 // its tables are slow to make
		}
		for seed := range seeds {
			r := rand.New(rand.NewPCG(seed, 18))
			const n = 80
			bad := 1 + r.IntN(n-20)
			last := bad + 1 + r.IntN(10) // the record that closes the quote
			swallows := seed%2 == 0
			lines := []string{"id,a,b"}
			for i := range n {
				a, b := []string{"x", "", "é", " 7"}[r.IntN(4)], []string{"y", "", "5'"}[r.IntN(3)]
				switch {
				case i == bad && swallows:
					a = `"` + a
				case i == bad:
					a = `"p, q"` + "z"
				case i == last && swallows:
					a += `"`
				}
				lines = append(lines, fmt.Sprintf("%d,%s,%s", i, a, b))
			}
			text := strings.Join(lines, "\n") + "\n"
			run := func(set func(*load.Request)) ([]string, error) {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8, a TEXT, b TEXT)")
				req := fileRequest("t", write(t, "dirt.csv", text))
				req.Chunk, req.Workers = int64(1+r.IntN(n)), 1+r.IntN(2)
				if req.Method = commit.Insert; s.Product == server.PostgreSQL && r.IntN(2) == 0 {
					req.Method = commit.Copy
				}
				set(&req)
				l, err := load.New(context.Background(), srv, req)
				if err != nil {
					return nil, err
				}
				defer l.Close()
				_, err = l.Run(context.Background())
				return table(t, url, "SELECT id::TEXT, a, b FROM t"), err
			}
			// 1. Nothing is said.
			says := "text follows a closing quote"
			if swallows {
				says = "a quoted field that begins here contains lines that look like records"
			}
			got, err := run(func(req *load.Request) { req.NoRegistry = true })
			if want := fmt.Sprintf("dirt.csv:%d: %s", bad+2, says); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("seed %d: got %v, want %s", seed, err, want)
			}
			good := plainly(strings.Join(lines[1:bad+1], "\n") + "\n")
			behind := last + 1
			if !swallows {
				behind = bad + 1
			}
			good = append(good, plainly(strings.Join(lines[behind+1:], "\n")+"\n")...)
			for _, row := range got {
				if !slices.Contains(good, row) {
					t.Fatalf("seed %d: the table has %s, which is no record beside the wrong one", seed, row)
				}
			}
			// 2. Quotes are text.
			got, err = run(func(req *load.Request) { filesOf(*req).NoQuote, req.NoRegistry = true, true })
			if swallows && err != nil {
				t.Fatalf("seed %d, without quotes: %v", seed, err)
			}
			if swallows {
				checkRows(t, got, plainly(strings.Join(lines[1:], "\n")+"\n"))
			} else if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("dirt.csv:%d: 4 fields instead of 3", bad+2)) {
				t.Fatalf("seed %d, without quotes: %v", seed, err)
			}
			// 3. Quotes are quotes, or the record is set aside.
			got, err = run(func(req *load.Request) {
				if filesOf(*req).Quote = '"'; !swallows {
					filesOf(*req).MaxErrors.Records = 1
				}
			})
			if err != nil {
				t.Fatalf("seed %d, with quotes: %v", seed, err)
			}
			want := good
			if swallows {
				want = strictly(text)[1:]
			}
			checkRows(t, got, want)
			if t.Failed() {
				t.Fatalf("seed %d: %s", seed, text)
			}
		}
	})
}
