package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestReplaceRefused refuses tables, before the first row, of which something would not be as before.
func TestReplaceRefused(t *testing.T) {
	loadertest.Slow(t)
	ctx := context.Background()
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	path := write(t, "t.csv", "id,v\n1,new\n2,new\n3,new\n")
	reader, _ := s.NewUser(t, url)
	owner, _ := s.NewUser(t, url)
	loadertest.Exec(t, url, "CREATE TABLE other (id INT8 PRIMARY KEY)", "CREATE TABLE r (id INT8 PRIMARY KEY, v TEXT)")
	if _, err := newLoad(t, url, replaceRequest("r", path)).Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ name, make, undo, want string }{
		{"view", "CREATE VIEW above AS SELECT id FROM r", "DROP VIEW above", "view above depends on table r"},
		{"materialized view", "CREATE MATERIALIZED VIEW above AS SELECT id FROM r", "DROP MATERIALIZED VIEW above", "materialized view above depends on table r"},
		{"function", "CREATE FUNCTION f(r) RETURNS INT LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION f", "function f(r) depends on type r"},
		{"new style of function", "CREATE FUNCTION f() RETURNS BIGINT LANGUAGE sql RETURN (SELECT count(*) FROM r)", "DROP FUNCTION f", "function f() depends on"},
		{"column of its type", "CREATE TABLE has (r r)", "DROP TABLE has", "column r of table has depends on type r"},
		{"foreign key to it", "CREATE TABLE child (r INT8 REFERENCES r)", "DROP TABLE child", "it is referenced by child; drop that foreign key before the load, or use --on-conflict update"},
		{"foreign key of it", "ALTER TABLE r ADD FOREIGN KEY (id) REFERENCES other NOT VALID", "ALTER TABLE r DROP CONSTRAINT r_id_fkey", "constraint r_id_fkey on table r would be lost"},
		{"foreign key to itself", "ALTER TABLE r ADD FOREIGN KEY (id) REFERENCES r", "ALTER TABLE r DROP CONSTRAINT r_id_fkey", "constraint r_id_fkey on table r would be lost"},
		{"trigger", "CREATE TRIGGER audit BEFORE UPDATE ON r FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", "DROP TRIGGER audit ON r", "trigger audit on table r would be lost"},
		{"rule", "CREATE RULE nothing AS ON DELETE TO r DO ALSO SELECT 1", "DROP RULE nothing ON r", "rule nothing on table r would be lost"},
		{"policy", "CREATE POLICY few ON r USING (true)", "DROP POLICY few ON r", "policy few on table r would be lost"},
		{"row security", "ALTER TABLE r ENABLE ROW LEVEL SECURITY", "ALTER TABLE r DISABLE ROW LEVEL SECURITY", "it has row-level security"},
		{"publication", "CREATE PUBLICATION p FOR TABLE r", "DROP PUBLICATION p", "it is in publication p"},
		{"publication of all", "CREATE PUBLICATION p FOR ALL TABLES", "DROP PUBLICATION p", "it is in publication p"},
		{"statistics", "CREATE STATISTICS related ON id, v FROM r", "DROP STATISTICS related", "statistics object related would be lost"},
		{"statistics of an expression", "CREATE INDEX expr ON r (lower(v)); ALTER INDEX expr ALTER COLUMN 1 SET STATISTICS 9", "DROP INDEX expr", "statistics targets"},
		{"parent", "CREATE TABLE child () INHERITS (r)", "DROP TABLE child", "table child depends on table r"},
		{"child", "CREATE TABLE parent (id INT8); ALTER TABLE r INHERIT parent", "ALTER TABLE r NO INHERIT parent; DROP TABLE parent", "would be lost"},
		{"type", "CREATE TYPE typed AS (id INT8, v TEXT); ALTER TABLE r OF typed", "ALTER TABLE r NOT OF; DROP TYPE typed", "reloftype"},
		{"unlogged", "ALTER TABLE r SET UNLOGGED", "ALTER TABLE r SET LOGGED", "it is UNLOGGED"},
		{"invalid index", "CREATE INDEX broken ON r (v); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::REGCLASS", "DROP INDEX broken", "broken"},
		{"privilege from another", "GRANT SELECT ON r TO " + reader + " WITH GRANT OPTION; SET ROLE " + reader + "; GRANT SELECT ON r TO " + owner + "; RESET ROLE", "REVOKE ALL ON r FROM " + reader + " CASCADE", "privileges of table r would differ"},
		{"partitioned", "DROP TABLE r; CREATE TABLE r (id INT8 PRIMARY KEY, v TEXT) PARTITION BY RANGE (id); CREATE TABLE r1 PARTITION OF r DEFAULT; INSERT INTO r VALUES (1, 'old'), (7, 'old'), (8, 'old')", "", "it is partitioned"},
		{"partition", "DROP TABLE r; CREATE TABLE whole (id INT8 PRIMARY KEY, v TEXT) PARTITION BY RANGE (id); CREATE TABLE r PARTITION OF whole DEFAULT; INSERT INTO r VALUES (1, 'old'), (7, 'old'), (8, 'old')", "DROP TABLE whole; CREATE TABLE r ()", "it is a partition"},
	} {
		t.Run(x.name, func(t *testing.T) {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS r", "CREATE TABLE r (id INT8 PRIMARY KEY, v TEXT)", "INSERT INTO r VALUES (1, 'old'), (7, 'old'), (8, 'old')")
			loadertest.Exec(t, url, strings.Split(x.make, "; ")...)
			var was []string
			if loadertest.Chaos {
				was = dump(t, url)
			}
			records := loadertest.Value[int](t, url, "SELECT count(*) FROM loader.loads")
			l, err := load.New(ctx, loadertest.Open(t, url), replaceRequest("r", path))
			var refused *load.TableError
			if err == nil {
				l.Close()
			}
			if !errors.As(err, &refused) || !strings.Contains(refused.Error(), x.want) || !strings.Contains(refused.Error(), "; use --truncate, which keeps the table") && x.name != "foreign key to it" {
				t.Errorf("got %v, want a refusal with %q", err, x.want)
			}
			t.Log(err)
			checkTable(t, url, "refused", "r", `"1"|"old"|; "7"|"old"|; "8"|"old"|`)
			if n := loadertest.Value[int](t, url, "SELECT count(*) FROM loader.loads"); n != records {
				t.Errorf("%d loads are on record, want %d", n, records)
			}
			if loadertest.Chaos && !slices.Equal(was, dump(t, url)) {
				t.Error("the schema is not as before")
			}
			if x.undo != "" {
				loadertest.Exec(t, url, strings.Split(x.undo, "; ")...)
			}
		})
	}
}
