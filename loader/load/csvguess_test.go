package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A guessCase is a file, and what becomes of it without flags that say how it is written.
type guessCase struct {
	name, file string // file is the text; a name with a dot is the file's
	table      string // columns of the table; empty: --create-table creates it
	set        func(*files.Request)
	// want are the rows, types those of the columns as PostgreSQL names them where not empty.
	want  []string
	types string
	// err is a part of the error, and kind its kind: nothing is loaded then, and no table made.
	err  string
	kind failure.Kind
	told string // a guess that is told with --quiet too
}

func behind(n int, head, line, last string) string {
	return head + strings.Repeat(line, n) + last
}

var guessCases = []guessCase{
	// Delimiters.
	{name: "a decimal comma is no delimiter", file: "Milch;1,09\nBrot;2,49\nSaft;-13,99\n", table: "a TEXT, b TEXT", want: []string{`"Brot"|"2,49"|`, `"Milch"|"1,09"|`, `"Saft"|"-13,99"|`}},
	{name: "nor where the table would take it", file: "Milch;1,09\nBrot;2,49\n", table: "a TEXT, b NUMERIC", err: `"1,09"`, kind: failure.Data},
	{name: "a tie", file: "a|b,c|d\ne|f,g|h\n", err: `--delimiter ',' gives 2 fields: "e|f" and "g|h"; --delimiter '|' gives 3 fields: "e" and "f,g" and "h"`, kind: failure.Data},
	{name: "a tie that the table's width settles", file: "p|q,r|s\ne|f,g|h\n", table: "a TEXT, b TEXT, c TEXT", want: []string{`"p"|"q,r"|"s"|`, `"e"|"f,g"|"h"|`}, told: "delimiter '|'"},
	{name: "a tie that the types settle", file: "1|x,7|2\n2|y,8|3\n", table: "a TEXT, b INT8", err: "the field separator is not clear", kind: failure.Data},
	{name: "a tie that the name settles.tsv", file: "p\tq, c\nd\te, f\n", table: "a TEXT, b TEXT", want: []string{`"p"|"q, c"|`, `"d"|"e, f"|`}},
	{name: "quotes are evidence", file: "\"a;b\",\"c\"\n\"d;e\",\"f\"\n", table: "a TEXT, b TEXT", want: []string{`"a;b"|"c"|`, `"d;e"|"f"|`}},
	// Headers.
	{name: "names given, a row in front", file: "Smith,Main Street\nJones,12 High Street\n", table: "a TEXT, b TEXT", set: func(f *files.Request) { f.Columns = []string{"a", "b"} }, want: []string{`"Jones"|"12 High Street"|`, `"Smith"|"Main Street"|`}, told: "no header"},
	{name: "names given that the header has", file: "A,b\nJones,12 High Street\n", table: "a TEXT, b TEXT", set: func(f *files.Request) { f.Columns = []string{"a", "b"} }, want: []string{`"Jones"|"12 High Street"|`}},
	{name: "another spelling", file: "First Name,City\nAnn,Oslo\n", table: "first_name TEXT, city TEXT", want: []string{`"Ann"|"Oslo"|`}},
	{name: "yet another", file: "firstName;CITY\nAnn;Oslo\n", table: "first_name TEXT, city TEXT", want: []string{`"Ann"|"Oslo"|`}},
	{name: "no names, numbers", file: "1,Ann\n2,Bob\n", want: []string{`"1"|"Ann"|`, `"2"|"Bob"|`}, types: "bigint,text", told: "no header"},
	{name: "no names, dates", file: "x,2020-01-01\ny,2020-01-02\n", want: []string{`"x"|"2020-01-01"|`, `"y"|"2020-01-02"|`}, types: "text,date", told: "no header"},
	{name: "half a header", file: "id,2019\n1,5\n2,6\n", err: "may be a header or a row: --header yes or --header no decides", kind: failure.Data},
	{name: "words alone", file: "a,b\nc,d\n", want: []string{`"c"|"d"|`}, told: "header row"},
	{name: "words for numbers", file: "x,y\n1,d\n", table: "a INT8, b TEXT", set: func(f *files.Request) { f.Columns = []string{"a", "b"} }, want: []string{`"1"|"d"|`}},
	// Quotes and ends of lines.
	{name: "quotes within fields", file: "a|b\n1|{\"a\": 1}\n2|37°36'37.8\"N 12\"\n3|say \"\"hi\n", want: []string{`"1"|"{\"a\": 1}"|`, `"2"|"37°36'37.8\"N 12\""|`, `"3"|"say \"\"hi"|`}},
	{name: "text behind a quote", file: "a,b\n1,x\n2,\"y\"z\n", table: "a INT8, b TEXT", err: ":3: text follows a closing quote", kind: failure.Data},
	{name: "records within quotes", file: "id,name,size\n0,Nail,1\n1,\"Pipe,3\n2,Rod,4\n3,Tube 5\",6\n", err: ":3: a quoted field that begins here contains lines that look like records; --quote none", kind: failure.Data},
	{name: "the same into a table", file: "id,name,size\n0,Nail,1\n1,\"Pipe,3\n2,Rod,4\n3,Tube 5\",6\n", table: "id INT8, name TEXT, size INT8", err: ":3: a quoted field that begins here", kind: failure.Data},
	{name: "the same without quotes", file: "id,name,size\n1,\"Pipe,3\n2,Rod,4\n3,Tube 5\",6\n", set: func(f *files.Request) { f.NoQuote = true }, want: []string{`"1"|"\"Pipe"|"3"|`, `"2"|"Rod"|"4"|`, `"3"|"Tube 5\""|"6"|`}},
	{name: "the same with them", file: "id,name,size\n1,\"Pipe,3\n2,Rod,4\n3,Tube 5\",6\n", set: func(f *files.Request) { f.Quote = '"' }, want: []string{`"1"|"Pipe,3\n2,Rod,4\n3,Tube 5"|"6"|`}},
	{name: "lines within quotes", file: "id,text\n1,\"two\nlines, and more\"\n2,x\n", want: []string{`"1"|"two\nlines, and more"|`, `"2"|"x"|`}},
	{name: "a CR within a field", file: "note,n\nfoo\rbar,1\nbaz,2\n", want: []string{`"baz"|"2"|`, `"foo\rbar"|"1"|`}},
	{name: "CRs alone", file: "note,n\rfoo,1\rbaz,2\r", want: []string{`"baz"|"2"|`, `"foo"|"1"|`}},
	{name: "blank lines at the end", file: "a,b\r\n1,2\r\n3,4\r\n\r\n\r\n", want: []string{`"1"|"2"|`, `"3"|"4"|`}},
	{name: "a delimiter at the end of all", file: "a,b,\n1,2,\n3,4,\n", want: []string{`"1"|"2"|`, `"3"|"4"|`}, types: "bigint,bigint"},
	{name: "the same into a table", file: "a,b,\n1,2,\n3,4,\n", table: "a INT8, b INT8", want: []string{`"1"|"2"|`, `"3"|"4"|`}},
	{name: "that the header lacks", file: "a|b\n1|2|\n3|4|\n", err: "--skip 1 --header no --columns a,b,x --map x=", kind: failure.Data},
	{name: "short records", file: "a,b,c\n1,2,3\n4,5\n", err: "--short-rows null", kind: failure.Data},
	{name: "short records that are allowed", file: "a,b,c\n1,2,3\n4,5\n", set: func(f *files.Request) { f.ShortRows = true }, want: []string{`"1"|"2"|"3"|`, `"4"|"5"|NULL|`}},
	{name: "a title", file: "Report of 2025\n\nid,name\n1,a\n2,b\n", err: "--skip 2 skips the lines", kind: failure.Data},
	// Types.
	{name: "signs, zeros and parts", file: "a,b,c,d,e\n+14155550123,06103,1234,-0,7\n+4930123456,90210,12E4,5,-3\n", want: []string{`"+14155550123"|"06103"|"1234"|"-0"|"7"|`, `"+4930123456"|"90210"|"12E4"|"5"|"-3"|`}, types: "text,text,text,text,bigint"},
	{name: "digits", file: "a,b,c\n115792089237316195423570985008687907853269984665640564039457,1.10,9223372036854775808\n10,0.000001,1\n", want: []string{`"10"|"0.000001"|"1"|`, `"115792089237316195423570985008687907853269984665640564039457"|"1.10"|"9223372036854775808"|`}, types: "numeric,numeric,numeric"},
	{name: "dates that are none", file: "a,b,c\n2020-01-01,2023-02-28,10:30\n0000-00-00,2023-02-30,25:61\n", want: []string{`"0000-00-00"|"2023-02-30"|"25:61"|`, `"2020-01-01"|"2023-02-28"|"10:30"|`}, types: "text,text,text"},
	{name: "zeros behind the first records", file: behind(1500, "id,zip\n", "1,90210\n", "2,06103\n"), types: "bigint,text"},
	{name: "times behind them", file: behind(1500, "id,d\n", "1,2020-01-05\n", "2,2020-01-06 13:45:00\n"), types: "bigint,text"},
	{name: "truth", file: "a,b\ntrue,t\nFALSE,f\n", want: []string{`"false"|"f"|`, `"true"|"t"|`}, types: "boolean,text"},
	{name: "blanks", file: "a,b\n 7,x\n8,y\n", want: []string{`" 7"|"x"|`, `"8"|"y"|`}, types: "text,text"},
	{name: "types that are said", file: "a,b\n1,2\n", set: func(f *files.Request) { f.Types = map[string]string{"a": "NUMERIC(10,2)"}; f.Text = true }, want: []string{`"1.00"|"2"|`}, types: "numeric(10,2),text"},
	// Names.
	{name: "names that no column can have", file: "\"\",xmin,note,note," + strings.Repeat("é", 40) + "\n1,2,3,4,5\n", want: []string{`"1"|"2"|"3"|"4"|"5"|`}},
	{name: "an expression from the column's own field", file: "id,amount\n1,5\n", table: "id INT8, amount INT8", set: func(f *files.Request) {
		f.Set = []commit.Assignment{{Column: "amount", Expr: "(coalesce(amount, '0')::INT8 * 100)"}}
	}, want: []string{`"1"|"500"|`}},
	// Formats.
	{name: "JSON", file: "{\"id\":1,\"n\":\"a\"}\n{\"id\":2,\"n\":\"b\"}\n", err: "is JSON, not CSV", kind: failure.Data},
	{name: "HTML", file: "<!DOCTYPE html><html><body>Sign in, please</body></html>\n", err: "is an HTML page, not CSV", kind: failure.Data},
	{name: "zip", file: "PK\x03\x04\x14\x00\x00\x00", err: "unzip -p", kind: failure.Data},
	{name: "bzip2", file: bzipped, want: []string{`"1"|"a"|`}},
	{name: "xz", file: xzipped, want: []string{`"1"|"a"|`}},
	{name: "a DOS file", file: dos("id,name\n1,Müller\n"), set: func(f *files.Request) { f.Encoding = "cp850" }, want: []string{`"1"|"Müller"|`}},
	{name: "text behind a quote of the header", file: "id,\"n\"x\n1,a\n", err: "line 1, the first record: text follows a closing quote", kind: failure.Data},
	{name: "NULL of COPY's text format", file: "id\tn\n1\t\\N\n", want: []string{`"1"|"\\N"|`}, told: "--null '\\N' reads it as NULL; --format text"},
	{name: "an encoding as PostgreSQL calls it", file: "id,n\n1,\xb1\n", set: func(f *files.Request) { f.Encoding = "ISO_8859_5" }, want: []string{`"1"|"Б"|`}},
	{name: "UTF-16 without a mark", file: wideText("id,n\n1,é\n2,東京\n", unicode.LittleEndian), err: "looks like UTF-16 without a byte order mark; --encoding utf-16le reads it", kind: failure.Data},
	{name: "UTF-16 of the other order", file: wideText("id,n\r\n1,é\r\n2,東京\r\n", unicode.BigEndian), table: "id INT8, n TEXT", err: "--encoding utf-16be reads it", kind: failure.Data},
	{name: "UTF-16 that is named", file: wideText("id,n\r\n1,é\r\n2,東京\r\n", unicode.BigEndian), set: func(f *files.Request) { f.Encoding = "utf-16be" }, want: []string{`"1"|"é"|`, `"2"|"東京"|`}},
	{name: "Japanese", file: "id,n\n1,\x93\x8c\x8b\x9e\n", err: `name its encoding: --encoding shift_jis reads "東京", --encoding gbk reads "搶嫗"`, kind: failure.Data},
	{name: "an apostrophe of a Macintosh", file: "id,n\n1,It\xd5s\n2,\x94\n", err: `--encoding win1252 reads "ItÕs", --encoding mac reads "It’s"`, kind: failure.Data},
	{name: "a line for Excel", file: "sep=;\na;b\n1;2\n", err: "--skip 1 --delimiter ';' reads the records after it", kind: failure.Data},
	{name: "that is passed over", file: "sep=;\na;b\n1;2\n", set: func(f *files.Request) { f.Skip, f.Delimiter = 1, ';' }, want: []string{`"1"|"2"|`}},
	{name: "a header without the first name", file: "time,air temp\n0,03:14,18.1\n1,03:15,18.2\n", err: "--skip 1 --header no --columns x,time,air_temp adds the name x", kind: failure.Data},
	{name: "that has it", file: "time,air temp\n0,03:14,18.1\n1,03:15,18.2\n", set: func(f *files.Request) {
		f.Skip, f.Header, f.Columns = 1, files.HeaderNo, []string{"x", "time", "air_temp"}
	}, want: []string{`"0"|"03:14"|"18.1"|`, `"1"|"03:15"|"18.2"|`}},
	{name: "a title of some lines", file: "# Planets\n# of 2014\n#\nid,name\n1,a\n2,b\n", err: "--skip 3 skips the lines", kind: failure.Data},
	{name: "quotes behind backslashes", file: "a,b\n1,\"he said \\\"hi\\\", ok\"\n2,z\n", err: `--escape '\' reads a quote after a backslash`, kind: failure.Data},
	{name: "that are named", file: "a,b\n1,\"he said \\\"hi\\\", ok\"\n2,z\n", set: func(f *files.Request) { f.Escape = '\\' }, want: []string{`"1"|"he said \"hi\", ok"|`, `"2"|"z"|`}},
	{name: "marks within", file: "a,b\n1,x\n\ufeff2,y\n", want: []string{`"1"|"x"|`, `"\ufeff2"|"y"|`}},
	{name: "numbers of other notations", file: "a,b,c,d,e,f\n1e5,0x1F,1_000,NaN,00.5,-0.00\n2E6,0x2a,0b1,1.5,1.5,0.5\n", want: []string{`"1e5"|"0x1F"|"1_000"|"NaN"|"00.5"|"-0.00"|`, `"2E6"|"0x2a"|"0b1"|"1.5"|"1.5"|"0.5"|`}, types: "text,text,text,text,text,text"},
	{name: "times of other notations", file: "a,b,c,d\n2020-01-02 03:04:05.123456789,2020-01-02 24:00:00,2020-1-2,2020-01-02\n2020-01-02 03:04:05,2020-01-03 00:00:00,2020-1-3,2020-01-02 00:00:00\n", types: "text,text,text,text"},
	{name: "times with and without an offset", file: "a,b\n2020-01-02T03:04:05Z,x\n2020-01-02T03:04:05,y\n", types: "text,text"},
	{name: "empty texts beside numbers", file: "a,b\n\"\",x\n3,\n", want: []string{`""|"x"|`, `"3"|NULL|`}, types: "text,text"},
	{name: "some records with a delimiter more", file: "a,b\n1,2,\n3,4\n", err: "3 fields instead of 2", kind: failure.Data},
	{name: "tabs or commas", file: "n\tv,w\n1\tx,1\n2\ty,2\n", err: `--delimiter ',' gives 2 fields: "1\tx" and "1"; --delimiter tab gives 2 fields: "1" and "x,1"`, kind: failure.Data},
	{name: "not of its encoding", file: "id,name\n1,ok\n2,z\x81\xfe\x81\n", set: func(f *files.Request) { f.Encoding = "cp932" }, err: "line 3: byte 16, 0x81, is not valid in cp932", kind: failure.Data},
}

// bzipped and xzipped are "id,n\n1,a\n", by bzip2 and xz.
const (
	bzipped = "\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xd6\x73\x21\xda\x00\x00\x03\xd9\x00\x00\x10\x00\x04\x20\x00\x24\x21\x20\x00\x22\x19\x3d\x10\x86\x02\x84\x25\x6f\xc5\xdc\x91\x4e\x14\x24\x35\x9c\xc8\x76\x80"
	xzipped = "\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\x01\x00\x08\x69\x64\x2c\x6e\x0a\x31\x2c\x61\x0a\x00\x00\x00\x00\x3e\xe3\xce\x5d\x04\x4d\x07\x41\x00\x01\x21\x09\x6c\x18\xc5\xd5\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a"
)

func dos(text string) string {
	b, err := charmap.CodePage850.NewEncoder().String(text)
	if err != nil {
		panic(err)
	}
	return b
}

// TestGuessesChangeNoValue loads files of which nothing is said: each value arrives as it is, or
// nothing does.
func TestGuessesChangeNoValue(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t) // the guesses are the file's; tables take long to make there
		}
		url := s.NewDatabase(t)
		srv := loadertest.Open(t, url)
		for i, c := range guessCases {
			name := fmt.Sprintf("t%d", i)
			if c.table != "" {
				loadertest.Exec(t, url, "CREATE TABLE "+name+" ("+c.table+")")
			}
			file := "x.csv"
			if strings.Contains(c.name, ".") {
				file = c.name
			}
			guesses, err := guess(t, srv, name, write(t, file, c.file), c)
			switch {
			case c.err != "":
				if err == nil || !strings.Contains(err.Error(), c.err) || server.ErrorKind(err) != c.kind {
					t.Errorf("%s: got %v (%v), want %s (%v)", c.name, err, server.ErrorKind(err), c.err, c.kind)
				}
				if n := tableRows(t, url, name); n > 0 || c.table == "" && n == 0 {
					t.Errorf("%s: the table has %d rows", c.name, n)
				}
				continue
			case err != nil:
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if c.want != nil {
				checkRows(t, table(t, url, "SELECT "+texts(t, url, name)+" FROM "+name), c.want)
			}
			if got := columnTypes(t, url, name); c.types != "" && s.Product == server.PostgreSQL && got != c.types {
				t.Errorf("%s: the types are %s, want %s", c.name, got, c.types)
			}
			if c.told != "" && !strings.Contains(strings.Join(guesses, "\n"), c.told) {
				t.Errorf("%s: told %q, want %q", c.name, guesses, c.told)
			}
			if t.Failed() {
				t.Fatalf("in %s", c.name)
			}
		}
	})
}

// guess loads a file.
func guess(t *testing.T, srv *server.Server, name, path string, c guessCase) ([]string, error) {
	req := fileRequest(name, path)
	req.NoRegistry = c.err == ""
	filesOf(req).CreateTable = c.table == ""
	if c.set != nil {
		c.set(filesOf(req))
	}
	if req.Method = ""; srv.Product == server.CockroachDB {
		req.Method = commit.Insert
	}
	l, err := load.New(context.Background(), srv, req)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	_, err = l.Run(context.Background())
	return l.Guesses, err
}

// tableRows returns the number of rows of a table; -1: there is none.
func tableRows(t *testing.T, url, name string) (n int) {
	t.Helper()
	// CockroachDB 21.1 keeps its lease of the database after a statement that cannot be prepared,
	// until the session's next one: a CREATE SCHEMA would wait for it for minutes.
	conn := loadertest.Connect(t, url)
	defer conn.Close(context.Background())
	if conn.QueryRow(context.Background(), "SELECT count(*) FROM "+name).Scan(&n) != nil {
		return -1
	}
	return n
}

// texts returns the columns of a table as text.
func texts(t *testing.T, url, name string) string {
	t.Helper()
	var list []string
	for _, c := range table(t, url, "SELECT lpad(ordinal_position::TEXT, 3, '0'), column_name FROM information_schema.columns WHERE column_name <> 'rowid' AND table_name = '"+name+"'") {
		list = append(list, strings.TrimSuffix(strings.SplitN(c, "|", 2)[1], "|")+"::TEXT")
	}
	return strings.Join(list, ", ")
}

func columnTypes(t *testing.T, url, name string) string {
	t.Helper()
	var list []string
	for _, c := range table(t, url, "SELECT lpad(attnum::TEXT, 3, '0'), format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND attname <> 'rowid' AND attrelid = '"+name+"'::regclass") {
		list = append(list, strings.Trim(strings.SplitN(c, "|", 2)[1], `"|`))
	}
	return strings.Join(list, ",")
}

// TestTypesAreJudgedByAllFiles has the value that decides in the last record of the last file,
// which is compressed.
func TestTypesAreJudgedByAllFiles(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write([]byte("id,v,w\n5,1,2020-01-01\n6,007,2020-01-02\n"))
		w.Close()
		dir := t.TempDir()
		plain, packed := filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv.gz")
		for name, text := range map[string]string{plain: behind(200_000, "id,v,w\n", "1,1,2020-01-01\n", ""), packed: z.String()} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		req := fileRequest("t", plain, packed)
		filesOf(req).CreateTable = true
		l := newLoad(t, url, req)
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := columnTypes(t, url, "t"); got != "bigint,text,date" {
			t.Errorf("the types are %s", got)
		}
		checkRows(t, table(t, url, "SELECT v::TEXT FROM t WHERE id > 4"), []string{`"1"|`, `"007"|`})
	})
}

// TestStreamsHaveOneForm has a value behind the first records of a stream that has not the form
// that its column's type was guessed by.
func TestStreamsHaveOneForm(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for last, want := range map[string]string{
			"2,06103,2020-01-01\n": `column zip: "06103" is not a whole number, the type guessed from the first records; load into another table with --types zip=TEXT`,
			"2,1,03/04/2020\n":     `column d: "03/04/2020" is not a date`,
			"2,1,tomorrow\n":       `column d: "tomorrow" is not a date`,
			"2,1,2020-01-02\n":     "",
		} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
			req := load.Request{Table: "t", Dataset: files.New(files.Request{
				Names: []string{files.Stdin}, CreateTable: true,
				Input: files.NewInput(strings.NewReader(behind(20_000, "id,zip,d\n", "1,90210,2020-01-05\n", last))),
			})}
			l := newLoad(t, url, req)
			_, err := l.Run(context.Background())
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%q: got %v, want %s", last, err, want)
			}
			l.Close()
		}
	})
}

// TestOlderRulesAreNotResumed holds that a load which was begun when files were read otherwise is
// refused, in words.
func TestOlderRulesAreNotResumed(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
		stop := make(chan struct{})
		req := fileRequest("t", write(t, "x.csv", "id,v\n1,a\n"))
		req.Stop = stop
		l := newLoad(t, url, req)
		close(stop)
		if _, err := l.Run(context.Background()); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("got %v, want a load that was stopped", err)
		}
		resume := func() error {
			again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
			if err == nil {
				again.Close()
			}
			return err
		}
		for _, older := range []string{"", `"rules":1,`} {
			loadertest.Exec(t, url, `UPDATE loader.loads SET spec = regexp_replace(spec, '"rules":[0-9]+,', '`+older+`')`)
			if err := resume(); failure.Of(err) != failure.Refused || !strings.Contains(fmt.Sprint(err), "(CSV rules 1; ") {
				t.Errorf("rules %q: got %v, want that it is refused", older, err)
			}
			loadertest.Exec(t, url, `UPDATE loader.loads SET spec = regexp_replace(spec, '"csv":\{("rules":[0-9]+,)?', '"csv":{"rules":2,')`)
			if err := resume(); err != nil {
				t.Errorf("rules 2: %v", err)
			}
		}
	})
}
