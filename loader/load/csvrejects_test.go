package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// manyBad makes n records, a share of them bad in each of the given ways, for the table
// of TestManyBadRecords. It returns what the table then holds, and the codes by line.
func manyBad(n int, share float64, ways ...string) (text string, want []string, codes map[int64]string) {
	random := rand.New(rand.NewPCG(7, uint64(n)))
	codes = map[int64]string{}
	var b strings.Builder
	good := -1
	for i := range n {
		id, v, parent, s := fmt.Sprint(i), fmt.Sprint(i+1), "1", fmt.Sprintf("s%d", i)
		code := ""
		// Bad ones come in runs too.
		if p := random.Float64(); p < share || i%50 < 3 && i > 100 {
			code = ways[random.IntN(len(ways))]
		}
		switch code {
		case "22P02":
			v = "x"
		case "23502":
			s = ""
		case "23514":
			v = "-1"
		case "23503":
			parent = "2"
		case "23505":
			if good < 0 {
				code = ""
				break
			}
			id = fmt.Sprint(good)
		case "22P04":
			s += ",more"
		}
		fmt.Fprintf(&b, "%s,%s,%s,%s\n", id, v, parent, s)
		if code != "" {
			codes[int64(i+1)] = code
			continue
		}
		good = i
		want = append(want, show([]*string{&id, &v, &parent, &s}))
	}
	return b.String(), want, codes
}

// loadBad loads a file with bad records through a proxy that counts the statements
// with rows.
func loadBad(t *testing.T, s loadertest.Server, set load.Settings, text string, want []string, codes map[int64]string) (statements int) {
	t.Helper()
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE p (id INT8 PRIMARY KEY)", "INSERT INTO p VALUES (1)",
		"CREATE TABLE t (id INT8 PRIMARY KEY, n INT8 CHECK (n > 0), p INT8 REFERENCES p, s TEXT NOT NULL)")
	proxy := loadertest.NewProxy(t, url)
	req := fileRequest("t", write(t, "bad.csv", text))
	req.Settings = set
	filesOf(req).Header, filesOf(req).Columns = files.HeaderNo, []string{"id", "n", "p", "s"}
	filesOf(req).MaxErrors.Records = int64(len(codes))
	l := newLoad(t, proxy.URL(), req)
	kind := loadertest.MsgQuery
	if set.Method == commit.Insert || s.Product == server.CockroachDB {
		kind = loadertest.MsgExecute
	}
	count := &loadertest.Fault{When: loadertest.Match{SQL: `(COPY|INSERT INTO) "public"."t"`, Kind: kind}, Times: -1, Do: loadertest.Delay}
	proxy.Add(count)
	res, err := l.Run(context.Background())
	if err != nil {
		t.Fatalf("%+v: %v", set, err)
	}
	if res.Rejected != int64(len(codes)) || res.Rows != int64(len(want)) {
		t.Errorf("%+v: %d rows and %d rejects, want %d and %d", set, res.Rows, res.Rejected, len(want), len(codes))
	}
	checkRows(t, table(t, url, "SELECT id::TEXT, n::TEXT, p::TEXT, s FROM t"), slices.Clone(want))
	lines := strings.SplitAfter(text, "\n")
	err = l.EachReject(context.Background(), func(r rows.Reject) error {
		if string(r.Record) != lines[r.Line-1] {
			t.Errorf("line %d was kept as %q, want %q", r.Line, r.Record, lines[r.Line-1])
		}
		if want := codes[r.Line]; r.Code != want && (s.Product == server.PostgreSQL || want == "") {
			t.Errorf("line %d has code %s, want %q: %s", r.Line, r.Code, want, r.Reason)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return count.Count()
}

// TestManyBadRecords has records of every kind of fault set aside and all others in,
// by each method.
func TestManyBadRecords(t *testing.T) {
	text, want, codes := manyBad(150, 0.1, "22P02", "23502", "23514", "23503", "23505", "22P04")
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		list := []load.Settings{{Method: commit.Insert, Workers: 1}}
		if s.Product == server.PostgreSQL || loadertest.Chaos {
			list = append(list, load.Settings{Method: commit.Copy, CommitMode: commit.Transaction, Workers: 1})
		}
		for _, set := range list {
			loadBad(t, s, set, text, want, codes)
		}
	})
}

// TestBadValuesAreFoundInFewStatements bounds what many records with values of another
// type cost, a third of all.
func TestBadValuesAreFoundInFewStatements(t *testing.T) {
	text, want, codes := manyBad(300, 0.3, "22P02")
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		// One refuses each bad record, and few take all others.
		most := 13 * len(codes) / 10
		if n := loadBad(t, s, load.Settings{Workers: 1}, text, want, codes); n > most {
			t.Errorf("%d statements for %d bad records of 300, want at most %d", n, len(codes), most)
		}
	})
}

// badFile has every kind of bad record among good ones.
const badFile = "id,n,s\n" +
	"1,10,a\n" +
	"2,x,b\n" + // no number
	"3,30\n" + // too few fields
	"4,40,\"two\nlines\"\n" +
	"\n" + // empty
	"5,50,c,d\n" + // too many
	"1,60,e\n" + // key that is there
	"6,-70,f\n" + // CHECK
	"7,80,\n" + // NOT NULL
	"8,90,\xff\xfe\n" + // no UTF-8
	"9,99999999999999999999,g\n" +
	"10,100,h\n" +
	"11,110,\"open\n" // a quote that is not closed

var badLines = map[int64]string{3: "22P02", 4: "22P04", 7: "22P04", 8: "22P04", 9: "23505", 10: "23514", 11: "23502", 12: "22021", 13: "22003", 15: "22P04"}

func TestBadRecordsAreSetAside(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, set := range []load.Settings{{}, {Method: commit.Insert, Chunk: 3, Workers: 1}, {Chunk: 1, Workers: 1}} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8 CHECK (n > 0), s TEXT NOT NULL)")
			req := fileRequest("t", write(t, "bad.csv", badFile))
			req.Settings = set
			filesOf(req).MaxErrors.Records = int64(len(badLines))
			l := newLoad(t, url, req)
			res, err := l.Run(context.Background())
			if err != nil {
				t.Fatalf("%+v: %v", set, err)
			}
			checkRows(t, table(t, url, "SELECT id::TEXT, n::TEXT, s FROM t"), []string{`"1"|"10"|"a"|`, "\"4\"|\"40\"|\"two\\nlines\"|", `"10"|"100"|"h"|`})
			if res.Rows != 3 || res.Rejected != int64(len(badLines)) {
				t.Errorf("%+v: %d rows and %d rejects, want 3 and %d", set, res.Rows, res.Rejected, len(badLines))
			}
			got := map[int64]string{}
			lines := strings.SplitAfter(badFile, "\n")
			err = l.EachReject(context.Background(), func(r rows.Reject) error {
				got[r.Line] = r.Code
				if want := lines[r.Line-1]; string(r.Record) != want {
					t.Errorf("line %d was kept as %q, want %q", r.Line, r.Record, want)
				}
				if badFile[r.Byte:r.Byte+int64(len(r.Record))] != string(r.Record) {
					t.Errorf("line %d is not at byte %d", r.Line, r.Byte)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for line, code := range badLines {
				if got[line] == "" || got[line] != code && s.Product == server.PostgreSQL {
					t.Errorf("%+v: line %d has code %q, want %s", set, line, got[line], code)
				}
			}
			// One fewer is too few.
			loadertest.Exec(t, url, "DELETE FROM t")
			filesOf(req).MaxErrors.Records--
			l = newLoad(t, url, req)
			_, err = l.Run(context.Background())
			var many *commit.ToleranceError
			if !errors.As(err, &many) {
				t.Errorf("%+v: got %v, want a ToleranceError", set, err)
			}
		}
	})
}

// TestTheFirstBadRowStopsTheLoad names its place, and has none of its chunk in.
func TestTheFirstBadRowStopsTheLoad(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, c := range []struct {
			text, want string
			in         int64
		}{
			{"id,n,s\n1,10,a\n2,20,b\n3,x,c\n", "bad.csv:4: ", 0},
			{"id,n,s\n1,10,a\n2,20,\"b\nb\"\n1,30,c\n", "bad.csv:5: ", 0},
			{"id,n,s\n1,10,a\n2,20\n", "bad.csv:3: 2 fields", 0},
			// What is before the quote is a chunk of its own.
			{"id,n,s\n1,10,a\n2,20,\"b\n", "bad.csv:3: a quote is not closed", 1},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8, s TEXT)")
			l := newLoad(t, url, fileRequest("t", write(t, "bad.csv", c.text)))
			_, err := l.Run(context.Background())
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q: got %v, want %s…", c.text, err, c.want)
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM t"); n != c.in {
				t.Errorf("%q: %d rows are in, want %d", c.text, n, c.in)
			}
		}
	})
}

// TestFirstBadRecordHasItsOwnReason has two bad records in one chunk, of which the server names the
// second: the first is named, and with its own reason.
func TestFirstBadRecordHasItsOwnReason(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE two (id INT PRIMARY KEY, v INT CHECK (v > 0))", "INSERT INTO two VALUES (1, 1)")
		for _, mode := range []commit.Mode{commit.Transaction, commit.Statement} {
			for _, x := range []struct{ text, code string }{
				{"7,7\n1,2\n3,x\n", "23505"},
				{"7,7\n2,x\n1,3\n", "22P02"},
				{"7,7\n2,-1\n3,x\n", "23514"},
				{"7,7\n2,-1\n1,3\n", "23514"},
			} {
				req := fileRequest("two", write(t, "b.csv", x.text))
				req.CommitMode, req.Method, filesOf(req).Columns = mode, commit.Insert, []string{"id", "v"}
				_, err := newLoad(t, url, req).Run(context.Background())
				var row *commit.RowError
				var dup *commit.DuplicateError
				code := server.Code(err)
				if errors.As(err, &dup) {
					code = "23505"
				}
				if !errors.As(err, &row) || row.Place.String() != "b.csv:2" || code != x.code {
					t.Errorf("%s, %q: got %v, want the record at b.csv:2 and its %s", mode, x.text, err, x.code)
				}
			}
		}
	})
}
