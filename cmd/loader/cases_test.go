package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"bulkload/loader/loadertest"
)

// A fileCase is a file that other tools are reported to load wrongly, and what becomes of it.
type fileCase struct {
	name, sql, file string
	// args are behind "csv x.csv --table t".
	args string
	code int
	says string // regular expression; empty: whatever is said
	// check is a query of one text, which must be want.
	check, want string
	only        string // the server it is for; empty: both
}

const creating = " --create-table"

var fileCases = []fileCase{
	{name: "03 decimal commas", sql: "CREATE TABLE t (a TEXT, b NUMERIC)", file: "Milch;1,09\nBrot;2,49\nKaese;3,99\n", code: exitData, check: "SELECT count(*)::TEXT FROM t", want: "0"},
	{name: "05 names given, no header", sql: "CREATE TABLE t (name TEXT, street TEXT)", file: "Smith,Main Street\nJones,12 High Street\nBrown,3 Low Road\n", args: " --columns name,street", check: "SELECT count(*)::TEXT || min(name) FROM t", want: "3Brown"},
	{name: "06 names in another spelling", sql: "CREATE TABLE t (first_name TEXT, last_name TEXT, city TEXT)", file: "First Name,Last Name,City\nAnn,Lee,Oslo\nBob,Roe,Rome\n", check: "SELECT count(*)::TEXT || max(city) FROM t", want: "2Rome"},
	{name: "08 no header", file: "1,Ann,Oslo\n2,Bob,Rome\n3,Cid,Bern\n", args: creating, check: "SELECT count(*)::TEXT FROM t", want: "3"},
	{name: "10 telephone numbers", file: "name,phone\nAnn,+14155550123\nBob,+4930123456\n", args: creating, check: "SELECT max(phone) FROM t", want: "+4930123456"},
	{name: "11 digits", file: "tx,value\n1,115792089237316195423570985008687907853269984665640564039457\n2,10\n", args: creating, check: "SELECT value::TEXT FROM t WHERE tx = 1", want: "115792089237316195423570985008687907853269984665640564039457"},
	{name: "14 a zero behind many records", file: behindMany("id,zip\n", "%d,90210\n", "1500,06103\n"), args: creating, check: "SELECT zip::TEXT FROM t WHERE id = 1500", want: "06103"},
	{name: "15 a time behind many dates", file: behindMany("id,v\n", "%d,2020-01-05\n", "1500,2020-01-06 13:45:00\n1501,03/04/2020\n1502,tomorrow\n"), args: creating, check: "SELECT concat_ws(' ', (SELECT v::TEXT FROM t WHERE id = 1500), (SELECT v::TEXT FROM t WHERE id = 1501), (SELECT v::TEXT FROM t WHERE id = 1502))", want: "2020-01-06 13:45:00 03/04/2020 tomorrow"},
	{name: "17 not of its encoding", file: "id,name\n1,\x93\x8c\x8b\x9e\n2,ok\x81\n3,z\xfd\xfe\n", args: creating + " --encoding shift_jis", code: exitData, says: "line 3"},
	{name: "19 the last record of a key", sql: "CREATE TABLE t (k INT8 PRIMARY KEY, v INT8)", file: againAndAgain(), args: " --on-conflict update --chunk 500 --workers 4", check: "SELECT min(v)::TEXT || max(v)::TEXT || count(*)::TEXT FROM t", want: "3939500"},
	{name: "22 quotes within fields", file: "phone,place,city\n209,\"x\",Oslo\n2095257564,37°36'37.8\"N 121°2'17.9\"W,Modesto\n", args: creating, check: "SELECT place FROM t WHERE city = 'Modesto'", want: "37°36'37.8\"N 121°2'17.9\"W"},
	{name: "22 documents within fields", file: "id|doc\n1|{\"a\": 1}\n2|{\"b\": \"x\"}\n", args: creating, check: "SELECT doc::TEXT FROM t WHERE id = 2", want: `{"b": "x"}`},
	{name: "24 a CR within a field", file: "note,n\nfoo\rbar,1\nbaz,2\n", args: creating, check: "SELECT count(*)::TEXT || max(note) FROM t", want: "2foo\rbar"},
	{name: "26 part numbers", file: "part,code\na,1234\nb,12E4\nc,5678\n", args: creating, check: "SELECT max(code::TEXT) FROM t WHERE part = 'b'", want: "12E4"},
	{name: "27 JSON", file: "{\"id\":1,\"n\":\"a\"}\n{\"id\":2,\"n\":\"b\"}\n", args: creating, code: exitData, says: "is JSON, not CSV"},
	{name: "27 a page", file: "<!DOCTYPE html><html><body>Sign in, please</body></html>\n", args: creating, code: exitData, says: "is an HTML page, not CSV"},
	{name: "28 commas in an expression", sql: "CREATE TABLE t (id INT8, amount NUMERIC)", file: "id,raw\n1,\"$1,200.50\"\n2,$3\n", args: " --set amount=replace(substr(raw,2),',','')::numeric", check: "SELECT sum(amount)::TEXT FROM t", want: "1203.50"},
	{name: "30 an expression of a field of its name", sql: "CREATE TABLE t (id INT8, amount INT8)", file: "id,amount\n1,5\n2,7\n", args: " --set amount=amount::int*100", check: "SELECT sum(amount)::TEXT FROM t", want: "1200"},
	{name: "31 a table that is all key", sql: "CREATE TABLE t (a INT8, b INT8, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 2), (1, 3)", file: "a,b\n1,2\n1,3\n", args: " --on-conflict update", check: "SELECT count(*)::TEXT FROM t", want: "2"},
	{name: "32 a generated key", sql: "CREATE TABLE t (id INT8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n TEXT)", file: "id,n\n1,a\n2,b\n", args: " --on-conflict skip", check: "SELECT count(*)::TEXT || max(id)::TEXT FROM t", want: "22", only: loadertest.PostgreSQL},
	{name: "33 a long name", file: "id,total_number_of_people_living_in_the_household_including_children_under_five\n1,2\n", args: creating, check: "SELECT count(*)::TEXT FROM t", want: "1"},
	{name: "35 names that are taken", file: "name,xmin,ymin,xmax,ymax\na,1,2,3,4\n", args: creating, check: "SELECT ymax::TEXT FROM t", want: "4"},
	{name: "36 a name twice", file: "id,note,note\n1,x,y\n", args: creating, check: "SELECT note FROM t", want: "x"},
	{name: "36 no last name", file: "a,b,\n1,2,\n", args: creating, check: "SELECT b::TEXT FROM t", want: "2"},
	{name: "36 no first name", file: "\"\",a,b\n1,2,3\n", args: creating, check: "SELECT b::TEXT FROM t", want: "3"},
	{name: "37 a wide file", file: wideFile(), args: creating, check: "SELECT max(q870)::TEXT FROM t", want: "100870"},
	{name: "38 a title", file: "Report of 2025-01-06\n\nid,name,amt\n1,a,2\n2,b,3\n", args: creating, code: exitData, says: "--skip 2"},
	{name: "38 a title that is passed over", file: "Report of 2025-01-06\n\nid,name,amt\n1,a,2\n2,b,3\n", args: creating + " --skip 2", check: "SELECT sum(amt)::TEXT FROM t", want: "5"},
	{name: "40 zip", file: zipped(), args: creating, code: exitData, says: "zip.*unzip"},
	{name: "40 xz", file: xzipped(), args: creating, check: "SELECT name FROM t", want: "a"},
	{name: "40 tar", file: tarred(), args: creating, code: exitData, says: "tar"},
	{name: "41 an empty line at the end", file: "a,b\n1,2\n3,4\n\n", args: creating, check: "SELECT sum(b)::TEXT FROM t", want: "6"},
	{name: "42 a delimiter at the end", file: "a|b\n1|2|\n3|4|\n", args: creating, code: exitData, says: "--skip 1 --header no --columns a,b,x --map x="},
	{name: "42 short records", file: "a,b,c\n1,2,3\n4,5\n", args: creating, code: exitData, says: "--short-rows null"},
	{name: "43 row-level security", sql: "CREATE ROLE joe43 LOGIN; CREATE TABLE t (id INT8); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (true) WITH CHECK (id < 10); GRANT ALL ON t TO joe43; ALTER TABLE t OWNER TO joe43; ALTER TABLE t FORCE ROW LEVEL SECURITY", file: "id\n1\n2\n", args: " --header yes", check: "SELECT count(*)::TEXT FROM t", want: "2", only: loadertest.PostgreSQL},
	{name: "45 a control character", file: "id\x01name\n1\x01Ann\n", args: creating + ` --delimiter \x01`, check: "SELECT name FROM t", want: "Ann"},
	{name: "47 a view", sql: "CREATE TABLE base (id INT8 PRIMARY KEY, n TEXT); CREATE VIEW t AS SELECT id, n FROM base; CREATE FUNCTION vf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO base VALUES (new.id, upper(new.n)); RETURN new; END $$; CREATE TRIGGER vt INSTEAD OF INSERT ON t FOR EACH ROW EXECUTE FUNCTION vf()", file: "id,n\n1,a\n2,b\n", check: "SELECT string_agg(n, '' ORDER BY n) FROM base", want: "AB", only: loadertest.PostgreSQL},
	{name: "49 a name in mixed case", sql: `CREATE TABLE "T" (id INT8, n TEXT)`, file: "id,n\n1,a\n", code: exitTarget, says: `--table '"T"'`},
	{name: "49 that is made", sql: `CREATE TABLE "T" (id INT8, n TEXT)`, file: "id,n\n1,a\n", args: creating, code: exitTarget, says: `--table '"T"'`},
	{name: "50 a type without equality", sql: "CREATE TABLE t (id INT8 PRIMARY KEY, p point)", file: "id,p\n1,\"(1,2)\"\n", check: "SELECT p::TEXT FROM t", want: "(1,2)", only: loadertest.PostgreSQL},
	{name: "51 a DOS encoding", file: "id,name\n1,M\x81ller\n", args: creating + " --encoding cp850", check: "SELECT name FROM t", want: "Müller"},
	{name: "53 a date of zeros", file: "id,d\n1,2020-01-01\n2,0000-00-00\n", args: creating, check: "SELECT d::TEXT FROM t WHERE id = 2", want: "0000-00-00"},
	{name: "53 no date", file: "id,d\n1,2023-02-30\n", args: creating, check: "SELECT d::TEXT FROM t", want: "2023-02-30"},
}

func behindMany(head, line, last string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range 1500 {
		fmt.Fprintf(&b, line, i)
	}
	return b.String() + last
}

func againAndAgain() string {
	var b strings.Builder
	b.WriteString("k,v\n")
	for i := range 40 * 500 {
		fmt.Fprintf(&b, "%d,%d\n", i%500, i/500)
	}
	return b.String()
}

func wideFile() string {
	var b strings.Builder
	for row := range 41 {
		for i := range 900 {
			switch {
			case row == 0:
				fmt.Fprintf(&b, "q%d", i)
			case row == 36 && i == 870:
				b.WriteString("2.5")
			default:
				fmt.Fprint(&b, 100000+i)
			}
			b.WriteByte(",\n"[i/899])
		}
	}
	return b.String()
}

const zText = "id,name\n1,a\n"

func zipped() string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, _ := z.Create("z.csv")
	f.Write([]byte(zText))
	z.Close()
	return b.String()
}

func xzipped() string {
	var b bytes.Buffer
	z, _ := xz.NewWriter(&b)
	z.Write([]byte(zText))
	z.Close()
	return b.String()
}

func tarred() string {
	var b bytes.Buffer
	g := gzip.NewWriter(&b)
	t := tar.NewWriter(g)
	t.WriteHeader(&tar.Header{Name: "z.csv", Mode: 0o600, Size: int64(len(zText))})
	t.Write([]byte(zText))
	t.Close()
	g.Close()
	return b.String()
}

// TestFilesThatOthersLoadWrongly loads each file: every value is in as it was written, or the
// message names what to add, and no table is made.
func TestFilesThatOthersLoadWrongly(t *testing.T) {
	loadertest.Slow(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		dir := t.TempDir()
		url := s.NewDatabase(t)
		path := filepath.Join(dir, "x.csv")
		for _, c := range fileCases {
			if c.only != "" && c.only != map[bool]string{false: loadertest.PostgreSQL, true: loadertest.CockroachDB}[s.Cockroach] {
				continue
			}
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS base CASCADE", `DROP TABLE IF EXISTS "T"`)
			if loadertest.Value[int64](t, url, "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'") > 0 {
				loadertest.Exec(t, url, "DROP TABLE t")
			}
			if c.sql != "" {
				loadertest.Exec(t, url, c.sql)
			}
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := command(url, append([]string{"csv", path, "--table", "t"}, strings.Fields(c.args)...)...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !regexp.MustCompile(c.says).Match(out) {
				t.Errorf("%s: exit code %d, want %d: %s, want %q", c.name, code, c.code, out, c.says)
				continue
			}
			if c.check != "" {
				if got := loadertest.Value[string](t, url, c.check); got != c.want {
					t.Errorf("%s: the table has %q, want %q", c.name, got, c.want)
				}
			} else if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'"); n != 0 {
				t.Errorf("%s: a table was made", c.name)
			}
		}
		if !s.Cockroach {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "DROP ROLE IF EXISTS joe43")
		}
	})
}
