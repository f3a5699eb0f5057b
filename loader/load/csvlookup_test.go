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

// keptOtherwise are types whose columns keep something else than the text says, with a text
// and whether the type can be a key.
var keptOtherwise = []struct {
	postgres, cockroach, value string
	key                        bool
}{
	{"NUMERIC(12,2)", "DECIMAL(12,2)", "1.005", true},
	{"NUMERIC(12,2)", "DECIMAL(12,2)", "1e3", true},
	{"NUMERIC", "", "1.50", true},
	{"", "DECIMAL", "1.50", false},
	{"NUMERIC(12,2)[]", "", "{1.005,2}", false},
	{"VARCHAR(3)", "VARCHAR(3)", "abc", true},
	{"VARCHAR(3)", "", "abc  ", true},
	{"VARCHAR(3)", "", "a    ", true},
	{"CHAR(5)", "CHAR(5)", "ab", true},
	{"CHAR(5)", "CHAR(5)", "ab   ", true},
	{"CHAR(2)", "", "ab   ", true},
	{"BPCHAR", "", "ab  ", true},
	{"BIT(3)", "BIT(3)", "101", false},
	{"VARBIT(5)", "VARBIT(5)", "101", false},
	{"TIMESTAMP(0)", "TIMESTAMP(0)", "2020-01-02 03:04:05.678", true},
	{"TIMESTAMPTZ(3)", "TIMESTAMPTZ(3)", "2020-01-02 03:04:05.6789+02", true},
	{"TIME(0)", "TIME(0)", "03:04:05.678", true},
	{"INTERVAL(0)", "", "1.6 seconds", true},
	{"INTERVAL", "", "30 days", true},
	{"", "INTERVAL", "30 days", false},
	{"DATE", "DATE", "20200102", true},
	{"REAL", "FLOAT4", "0.1", true},
	{"DOUBLE PRECISION", "FLOAT8", "0.1234567890123456789", true},
	{"DOUBLE PRECISION", "FLOAT8", "-0", true},
	{"DOUBLE PRECISION", "FLOAT8", "NaN", true},
	{"UUID", "UUID", "{123E4567E89B12D3A456426614174000}", true},
	{"BOOLEAN", "BOOL", "yes", true},
	{"POINT", "", "( 1.5 , -2 )", false},
	{"BOX", "", "(1,1),(0,0)", false},
	{"XML", "", "<a> b </a>", false},
	{"JSON", "", `{"a":1,  "a":2}`, false},
	{"JSONB", "JSONB", `{"a":1,  "a":2.50}`, false},
	{"BYTEA", "BYTES", `\x00FF`, true},
	{"TEXT", "STRING", "a\n%s é", true},
	{"TEXT[]", "STRING[]", `{a,NULL,"b c"}`, false},
	{"short", "", "ab  ", true},
	{"short", "", "abcde    ", true},
	{"CITEXT", "", "Key", true},
	{"TSVECTOR", "", "b a", false},
	{"INT4RANGE", "", "(1,10]", true},
	{"pair", "", "(1,)", false},
	{"", "STRING COLLATE en", "Key", false},
	{`TEXT COLLATE nocase`, "", "Key", false},
}

// typesOf makes the types that keptOtherwise names.
func typesOf(t *testing.T, s loadertest.Server, url string) {
	t.Helper()
	if s.Product == server.CockroachDB {
		return
	}
	loadertest.Exec(t, url, "CREATE EXTENSION IF NOT EXISTS citext", "CREATE DOMAIN short AS VARCHAR(5)", "CREATE TYPE pair AS (a INT, b TEXT)",
		"CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
}

// TestLookUpOfWhatIsKept loses the reply to the statement that brings a value of each type,
// which the look-up must find as the column keeps it, and verify too: once beside a key, and
// once as a part of the key.
func TestLookUpOfWhatIsKept(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		typesOf(t, s, url)
		vias := []commit.Method{commit.Insert, commit.Copy}
		if s.Product == server.CockroachDB {
			vias = vias[:1]
		}
		for _, via := range vias {
			for _, key := range []bool{false, true} {
				columns, names, record := []string{"id INT8"}, []string{"id"}, "7"
				for i, f := range keptOtherwise {
					typ := f.postgres
					if s.Product == server.CockroachDB {
						typ = f.cockroach
					}
					if typ == "" || key && !f.key {
						continue
					}
					name := fmt.Sprintf("c%d", i)
					columns, names = append(columns, name+" "+typ), append(names, name)
					record += `,"` + strings.ReplaceAll(f.value, `"`, `""`) + `"`
				}
				primary := "id"
				if key {
					primary = strings.Join(names, ", ")
				}
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS points", fmt.Sprintf("CREATE TABLE points (%s, PRIMARY KEY (%s))", strings.Join(columns, ", "), primary))
				checkLookUp(t, s, url, via, names, record+"\n")
			}
		}
	})
}

// checkLookUp loads one row whose reply is lost.
func checkLookUp(t *testing.T, s loadertest.Server, url string, via commit.Method, names []string, record string) {
	t.Helper()
	proxy := loadertest.NewProxy(t, url)
	req := fileRequest("points", write(t, "x.csv", record))
	filesOf(req).Columns = names
	req.CommitMode, req.Method = commit.Statement, via
	l := newLoad(t, proxy.URL(), req)
	proxy.Add(&loadertest.Fault{When: commitOf(s, req.Settings), Do: loadertest.SwallowReply, Times: 1})
	res, err := l.Run(context.Background())
	if err != nil || res.LookUps == 0 || res.AlreadyCommittedRows != 1 {
		t.Fatalf("by %s, %d columns: %+v, %v, want the row looked up and found", via, len(names), res, err)
	}
	if got, err := l.Verify(context.Background(), nil); err != nil || got.Same != 1 || got.Changed+got.Missing != 0 {
		t.Errorf("by %s, %d columns: verify says %+v, %v", via, len(names), got, err)
	}
}

// equals are values that the server takes for equal and that are not the same: what is
// there, and the record.
var equals = []struct{ postgres, cockroach, there, record string }{
	{"CITEXT", "", "KEY1", "key1"},
	{"NUMERIC", "DECIMAL", "1.0", "1.00"},
	{"DOUBLE PRECISION", "FLOAT8", "0", "-0"},
	{"INTERVAL", "", "1 month", "30 days"},
}

// TestEqualIsNotTheSame has rows of others under keys that equal those of the records, and
// beside the same keys values that equal theirs. None of them is the load's, also where the
// reply is lost and the rows are looked up.
func TestEqualIsNotTheSame(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		typesOf(t, s, url)
		for _, f := range equals {
			typ := f.postgres
			if s.Product == server.CockroachDB {
				typ = f.cockroach
			}
			if typ == "" {
				continue
			}
			for _, key := range []string{"v", "k"} {
				if key == "v" && typ == "DECIMAL" {
					continue // refused; see TestLookUpsThatTellNothing
				}
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS points", fmt.Sprintf("CREATE TABLE points (k INT8 NOT NULL, v %s NOT NULL, PRIMARY KEY (%s))", typ, key))
				req := fileRequest("points", write(t, "x.csv", "7,"+f.record+"\n"))
				filesOf(req).Columns = []string{"k", "v"}
				req.CommitMode, req.Method = commit.Statement, commit.Insert
				for _, lost := range []bool{false, true} {
					proxy := loadertest.NewProxy(t, url)
					reply := &loadertest.Fault{When: commitOf(s, req.Settings), Do: loadertest.SwallowReply, Times: 1}
					if lost {
						proxy.Add(reply)
					}
					// The row is younger than the load, whose own it may be by its age.
					l := newLoad(t, proxy.URL(), req)
					loadertest.Exec(t, url, "DELETE FROM points", fmt.Sprintf("INSERT INTO points VALUES (7, '%s')", f.there))
					res, err := l.Run(context.Background())
					var dup *commit.DuplicateError
					if !errors.As(err, &dup) || lost != reply.Fired() {
						t.Errorf("%s %s where %s is, key %s, reply lost %t: %d rows, %v; want a duplicate", typ, f.record, f.there, key, lost, res.Rows, err)
					}
				}
			}
		}
	})
}

// TestLookUpsThatTellNothing has loads refused whose rows could not be told from others
// after a lost reply.
func TestLookUpsThatTellNothing(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		typesOf(t, s, url)
		refused := func(want string, ddl ...string) {
			t.Helper()
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS points")
			loadertest.Exec(t, url, ddl...)
			req := fileRequest("points", write(t, "x.csv", "1,2\n"))
			filesOf(req).Columns = []string{"k", "v"}
			req.CommitMode, req.Method = commit.Statement, commit.Insert
			if want == "--set" {
				filesOf(req).Columns, filesOf(req).Map = []string{"k", "x"}, map[string]string{"x": ""}
				filesOf(req).Set = []commit.Assignment{{Column: "v", Expr: "(1)"}}
			}
			_, err := load.New(context.Background(), loadertest.Open(t, url), req)
			var table *load.TableError
			if !errors.As(err, &table) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "use --commit transaction") {
				t.Errorf("%s: got %v, want it refused for %s", ddl[0], err, want)
			}
		}
		refused("--set", "CREATE TABLE points (k INT8 PRIMARY KEY, v INT8)")
		if s.Product == server.CockroachDB {
			refused("collation", "CREATE TABLE points (k STRING COLLATE en PRIMARY KEY, v INT8)")
			refused("elements are truncated", "CREATE TABLE points (k INT8 PRIMARY KEY, v DECIMAL(12,2)[])")
			refused("different texts can be equal", "CREATE TABLE points (k DECIMAL PRIMARY KEY, v INT8)")
			refused("different texts can be equal", "CREATE TABLE points (k INTERVAL PRIMARY KEY, v INT8)")
			return
		}
		refused("lc_monetary", "CREATE TABLE points (k INT8 PRIMARY KEY, v MONEY)")
		refused("elements are truncated", "CREATE TABLE points (k INT8 PRIMARY KEY, v VARCHAR(3)[])")
		refused("hash function for type bit", "CREATE TABLE points (k BIT(3) PRIMARY KEY, v INT8)")
		refused("nocase", "CREATE TABLE points (k TEXT COLLATE nocase PRIMARY KEY, v INT8)")
		const change = "CREATE OR REPLACE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v = 1; RETURN NEW; END'"
		refused("trigger tr", "CREATE TABLE points (k INT8 PRIMARY KEY, v INT8)", change, "CREATE TRIGGER tr BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION change()")
		refused("trigger tr", "CREATE TABLE points (k INT8 PRIMARY KEY, v INT8) PARTITION BY RANGE (k)", "CREATE TABLE points1 PARTITION OF points DEFAULT",
			"CREATE TRIGGER tr BEFORE INSERT ON points1 FOR EACH ROW EXECUTE FUNCTION change()")
		refused("rules", "CREATE TABLE points (k INT8 PRIMARY KEY, v INT8)", "CREATE RULE r AS ON INSERT TO points WHERE NEW.k = 3 DO INSTEAD NOTHING")
		refused("row-level security", "CREATE TABLE points (k INT8 PRIMARY KEY, v INT8)", "ALTER TABLE points ENABLE ROW LEVEL SECURITY")
	})
}
