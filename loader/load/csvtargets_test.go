package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestTargetsOfFiles loads into targets that COPY or a comparison refuses: each is taken, or the
// error names the way.
func TestTargetsOfFiles(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		ctx := context.Background()
		loadInto := func(url, table, text string) error {
			req := fileRequest(table, write(t, "x.csv", text))
			req.NoRegistry = true
			l, err := load.New(ctx, loadertest.Open(t, url), req)
			if err != nil {
				return err
			}
			defer l.Close()
			_, err = l.Run(ctx)
			return err
		}
		// 1. A name in mixed case.
		loadertest.Exec(t, url, `CREATE TABLE "Orders" (id INT8, n TEXT)`)
		if err := loadInto(url, "Orders", "id,n\n1,a\n"); failure.Of(err) != failure.Target || !strings.Contains(err.Error(), `there is one called "Orders": --table '"Orders"'`) {
			t.Errorf("mixed case: got %v", err)
		}
		if err := loadInto(url, `"Orders"`, "id,n\n1,a\n"); err != nil {
			t.Errorf("mixed case, quoted: %v", err)
		}
		if s.Product == server.CockroachDB {
			return // it has neither of the others
		}
		// 2. A view whose trigger inserts.
		loadertest.Exec(t, url, "CREATE TABLE base (id INT8 PRIMARY KEY, n TEXT)", "CREATE VIEW v AS SELECT id, n FROM base",
			"CREATE FUNCTION vf() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO base VALUES (new.id, upper(new.n)); RETURN new; END $$",
			"CREATE TRIGGER vt INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION vf()")
		if err := loadInto(url, "v", "id,n\n1,a\n2,b\n"); err != nil {
			t.Errorf("a view: %v", err)
		}
		checkRows(t, table(t, url, "SELECT id::TEXT, n FROM base"), []string{`"1"|"A"|`, `"2"|"B"|`})
		// 3. Row-level security, by a user to whom it applies.
		name, as := s.NewUser(t, url)
		loadertest.Exec(t, url, "CREATE TABLE rl (id INT8)", "ALTER TABLE rl ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON rl USING (true) WITH CHECK (id < 10)", "GRANT ALL ON rl TO "+name)
		if err := loadInto(as, "rl", "id\n1\n2\n"); err != nil {
			t.Errorf("row-level security: %v", err)
		}
		if err := loadInto(as, "rl", "id\n3\n11\n"); err == nil || !strings.Contains(err.Error(), "x.csv:2: chunk of 2 rows: new row violates row-level security policy") {
			t.Errorf("row-level security, a row that is against it: got %v", err)
		}
		checkRows(t, table(t, url, "SELECT id::TEXT FROM rl"), []string{`"1"|`, `"2"|`})
		// 4. Types that know no equality are verified as texts.
		loadertest.Exec(t, url, "CREATE TABLE p (id INT8 PRIMARY KEY, p POINT, x XML, g POLYGON, j JSON)")
		text := "id,p,x,g,j\n1,\"(1,2)\",<a/>,\"((0,0),(1,1),(1,0))\",\"{\"\"a\"\": 1}\"\n2,,,,\n"
		if got := figures(verified(t, url, fileRequest("p", write(t, "p.csv", text)))); !strings.Contains(got, "2 rows: 2 same, 0 changed, 0 missing") {
			t.Errorf("types without equality: %s", got)
		}
		loadertest.Exec(t, url, "DELETE FROM p")
		if got := figures(verified(t, url, fileRequest("p", write(t, "p.csv", text)), "UPDATE p SET p = '(1,3)' WHERE id = 1")); !strings.Contains(got, "2 rows: 1 same, 1 changed, 0 missing") {
			t.Errorf("types without equality, one changed: %s", got)
		}
	})
}

// TestColumnsOfSeveralFilesGoByName loads files whose headers have the same names in other
// orders.
func TestColumnsOfSeveralFilesGoByName(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		ctx := context.Background()
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write([]byte("name,n,id\nz,7,3\n,8,4\n"))
		w.Close()
		plain, other, packed := write(t, "a.csv", "id,name,n\n1,x,5\n"), write(t, "b.csv", "n,id,name\n006,2,y\n"), write(t, "c.csv.gz", z.String())
		want := []string{`"1"|"x"|"5"|`, `"2"|"y"|"006"|`, `"3"|"z"|"7"|`, `"4"|NULL|"8"|`}
		for _, method := range []commit.Method{commit.Insert, commit.Copy} {
			for _, create := range []bool{false, true} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
				if !create {
					loadertest.Exec(t, url, "CREATE TABLE t (id INT8, name TEXT, n TEXT)")
				}
				req := fileRequest("t", plain, other, packed)
				req.Method, req.NoRegistry, req.Chunk, req.Workers = method, true, 1, 2
				filesOf(req).CreateTable = create
				l := newLoad(t, url, req)
				if _, err := l.Run(ctx); err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				l.Close()
				checkRows(t, table(t, url, "SELECT id::TEXT, name, n::TEXT FROM t"), want)
			}
		}
		// A header that lacks a name is another one: nothing is loaded.
		for _, text := range []string{"id,name\n5,x\n", "id,name,m\n5,x,1\n", "id,name,name\n5,x,1\n", "5,x,1\n"} {
			_, err := load.New(ctx, loadertest.Open(t, url), fileRequest("t", plain, write(t, "d.csv", text)))
			if failure.Of(err) != failure.Data || !strings.Contains(fmt.Sprint(err), "d.csv: has another header than a.csv") {
				t.Errorf("%q: got %v", text, err)
			}
		}
		checkRows(t, table(t, url, "SELECT id::TEXT, name, n::TEXT FROM t"), want)
	})
}
