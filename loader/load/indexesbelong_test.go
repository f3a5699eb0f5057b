package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// belonging makes a table of points with secondary indexes that have all that an index
// can have here.
func belonging(t *testing.T, s loadertest.Server, url string) {
	t.Helper()
	loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)")
	if s.Cockroach {
		loadertest.Exec(t, url,
			"CREATE INDEX by_x ON points (x DESC) STORING (y)", `CREATE UNIQUE INDEX "By-yz" ON points (y, z)`, "CREATE INDEX high ON points (z) WHERE z > 512",
			`COMMENT ON INDEX points@by_x IS 'what \ it''s for'`, `COMMENT ON INDEX points@"By-yz" IS 'two'`)
		return
	}
	space := "s" + loadertest.Value[string](t, url, "SELECT lower(current_database())")
	loadertest.Exec(t, url, "SET allow_in_place_tablespaces = on", "CREATE TABLESPACE "+pgx.Identifier{space}.Sanitize()+" LOCATION ''")
	t.Cleanup(func() {
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS points", "DROP SCHEMA IF EXISTS loader CASCADE")
		loadertest.Exec(t, url, "DROP TABLESPACE "+pgx.Identifier{space}.Sanitize())
	})
	loadertest.Exec(t, url,
		"CREATE SCHEMA far", "CREATE FUNCTION far.twice(FLOAT8) RETURNS FLOAT8 IMMUTABLE LANGUAGE SQL AS 'SELECT $1 * 2'",
		"CREATE INDEX by_x ON points (x DESC) INCLUDE (y) WITH (fillfactor = 70)",
		"CREATE INDEX spaced ON points (y) TABLESPACE "+pgx.Identifier{space}.Sanitize()+" WHERE y > 10",
		`CREATE UNIQUE INDEX "By-yz" ON points (y, z)`,
		"CREATE INDEX doubled ON points (far.twice(x), (y + z))",
		"ALTER TABLE points ADD CONSTRAINT once UNIQUE (x, y) WITH (fillfactor = 80) DEFERRABLE INITIALLY DEFERRED",
		"ALTER TABLE points ADD CONSTRAINT apart EXCLUDE USING btree (z WITH =, y WITH =, x WITH =)",
		`COMMENT ON INDEX by_x IS 'what \ it''s for'`, `COMMENT ON INDEX once IS 'its index'`, `COMMENT ON CONSTRAINT once ON points IS 'the constraint'`, "COMMENT ON CONSTRAINT apart ON points IS 'other'",
		"ALTER INDEX doubled ALTER COLUMN 1 SET STATISTICS 700", "ALTER INDEX doubled ALTER COLUMN 2 SET STATISTICS 0",
		"ALTER INDEX doubled DEPENDS ON EXTENSION plpgsql",
		"ALTER TABLE points CLUSTER ON by_x", `ALTER TABLE points REPLICA IDENTITY USING INDEX "By-yz"`,
		"CREATE PUBLICATION p FOR TABLE points")
}

// catalogue returns all that the server's catalogue says of the secondary indexes of table
// points, but for numbers that no two indexes share.
func catalogue(t *testing.T, s loadertest.Server, url string) string {
	t.Helper()
	if s.Cockroach {
		return loadertest.Value[string](t, url, `SELECT string_agg(line, e'\n' ORDER BY line) FROM (
			SELECT btrim(unnest(string_to_array(create_statement, e'\n')), e',;) \t') AS line FROM [SHOW CREATE TABLE points]
			UNION ALL SELECT concat_ws('|', index_name, seq_in_index::TEXT, column_name, direction, storing::TEXT, implicit::TEXT, comment) FROM [SHOW INDEXES FROM points WITH COMMENT])`)
	}
	return loadertest.Value[string](t, url, `SELECT COALESCE(string_agg(concat_ws(E'\n  ', c.relname, pg_get_indexdef(c.oid), pg_get_constraintdef(k.oid),
			to_jsonb(x) - ARRAY['indexrelid', 'indrelid', 'indexprs', 'indpred', 'indcheckxmin'],
			to_jsonb(c) - ARRAY['oid', 'relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen'],
			to_jsonb(k) - ARRAY['oid', 'conindid', 'conrelid', 'conexclop'],
			(SELECT jsonb_agg(to_jsonb(a) - ARRAY['attrelid'] ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid),
			(SELECT jsonb_agg(d.description ORDER BY d.classoid, d.objsubid, d.description) FROM pg_description d WHERE d.objoid IN (c.oid, k.oid)),
			(SELECT jsonb_agg(concat_ws(' ', pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype) ORDER BY pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), d.deptype)
				FROM pg_depend d WHERE d.objid IN (c.oid, k.oid)),
			(SELECT jsonb_agg(d.deptype ORDER BY d.deptype) FROM pg_depend d WHERE d.refobjid IN (c.oid, k.oid)),
			(SELECT spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace)), E'\n' ORDER BY c.relname), '')
			|| E'\n' || (SELECT relreplident::TEXT FROM pg_class WHERE oid = 'points'::REGCLASS)
		FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = x.indrelid
		WHERE x.indrelid = 'points'::REGCLASS AND NOT x.indisprimary`)
}

// checkCatalogue fails the test unless the catalogue says what it said.
func checkCatalogue(t *testing.T, s loadertest.Server, url, want string) {
	t.Helper()
	got := strings.Split(catalogue(t, s, url), "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(got) || got[i] != line {
			t.Errorf("the catalogue has %d lines; line %d is\n%s\nit was\n%s", len(got), i, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""), line)
			return
		}
	}
}

// TestDeferredIndexesHaveWhatWasTheirs defers indexes with all that can belong to one, in
// sessions that have settings of their own. The catalogue says afterwards what it said
// before, and a published table can be updated.
func TestDeferredIndexesHaveWhatWasTheirs(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		belonging(t, s, url)
		want := catalogue(t, s, url)
		with := url
		if !s.Cockroach {
			with += "&default_tablespace=" + "s" + loadertest.Value[string](t, url, "SELECT lower(current_database())")
		}
		l := newLoad(t, with, load.Request{Dataset: dataset.NewPoints(2000, 0), Indexes: load.DeferIndexes})
		if catalogue(t, s, url) == want {
			t.Fatal("no index is deferred")
		}
		if _, err := l.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		checkCatalogue(t, s, url, want)
		checkExact(t, url, l, 2000)
		loadertest.Exec(t, url, "UPDATE points SET x = x + 1", "DELETE FROM points WHERE z > 512")
	})
}

// TestLoadEndsBetweenAnIndexAndWhatIsItsOwn ends a load when it has made an index again and
// not yet given it what belongs to it, in each such place. Resume does so, and so does
// cancel.
func TestLoadEndsBetweenAnIndexAndWhatIsItsOwn(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		statements, step := 9, 1 // that follow the indexes
		if s.Cockroach {
			statements = 2
		}
		if !loadertest.Chaos {
			step = 5
		}
		for n := 1; n <= statements; n += step {
			url := s.NewDatabase(t)
			belonging(t, s, url)
			want := catalogue(t, s, url)
			ending := &loadertest.Fault{When: loadertest.Match{SQL: `^(COMMENT ON|ALTER INDEX|ALTER TABLE \S+ (CLUSTER|REPLICA))`, Kind: loadertest.MsgStatement}, Nth: n, Do: loadertest.Inject, Code: "42501"}
			l := newLoad(t, loadertest.NewProxy(t, url, ending).URL(), deferring())
			var index *load.IndexError
			if _, err := l.Run(context.Background()); !errors.As(err, &index) {
				t.Fatalf("statement %d: got %v, want an IndexError", n, err)
			}
			l.Close()
			if n%2 == 0 {
				cancel(t, url, l.ID)
			} else {
				again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := again.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
				again.Close()
			}
			checkCatalogue(t, s, url, want)
			checkExact(t, url, l, 200)
		}
	})
}

// TestIndexesThatCannotComeBackStay has indexes that no statement makes as they are. The
// load is refused, in one line that names the index and the reason, and nothing is dropped.
func TestIndexesThatCannotComeBackStay(t *testing.T) {
	type refusal struct {
		name string
		ddl  []string
		why  string
	}
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		list := []refusal{
			{"view", []string{"CREATE VIEW seen AS SELECT x FROM points@by_yz"}, "view seen names it"},
			{"view by number", []string{"CREATE VIEW seen AS SELECT x FROM points@[by_yz]"}, "view seen names it"},
		}
		if !s.Cockroach {
			list = []refusal{
				{"not valid", []string{"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_yz'::REGCLASS"}, "it is invalid"},
				{"partitions", []string{"ALTER TABLE points RENAME TO part", "ALTER INDEX by_x RENAME TO part_x", "CREATE TABLE points (LIKE part, PRIMARY KEY (id)) PARTITION BY RANGE (id)", "CREATE INDEX by_x ON points (x)", "ALTER TABLE points ATTACH PARTITION part DEFAULT"}, "indexes of partitions belong to it"},
				{"trigger", []string{"ALTER TABLE points ADD CONSTRAINT once UNIQUE (x) DEFERRABLE", "ALTER TABLE points DISABLE TRIGGER ALL"}, "a trigger of its constraint is not enabled"},
				{"extension", []string{"INSERT INTO pg_depend VALUES ('pg_class'::REGCLASS, 'by_yz'::REGCLASS, 0, 'pg_extension'::REGCLASS, (SELECT oid FROM pg_extension WHERE extname = 'plpgsql'), 0, 'e')"}, "it belongs to extension plpgsql"},
				{"foreign key", []string{"CREATE TABLE other (y FLOAT8, z FLOAT8, FOREIGN KEY (y, z) REFERENCES points (y, z))"}, "referenced by other"},
			}
		}
		for _, r := range list {
			t.Run(r.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				indexed(t, url)
				for _, x := range tableIndexes(t, url) {
					r.ddl[0] = strings.ReplaceAll(r.ddl[0], "["+x.Name+"]", fmt.Sprintf("[%d]", x.ID))
				}
				loadertest.Exec(t, url, r.ddl...)
				want := indexes(t, url)
				_, err := load.New(context.Background(), loadertest.Open(t, url), deferring())
				var table *load.TableError
				if !errors.As(err, &table) || !strings.Contains(err.Error(), r.why) || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v, want a refusal: %s", err, r.why)
				}
				checkIndexes(t, url, want)
				if views := loadertest.Value[int64](t, url, "SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'seen'"); strings.HasPrefix(r.name, "view") && views != 1 {
					t.Error("the view is gone")
				}
			})
		}
	})
}

// TestReplicaIdentityThatIsNeeded refuses to drop the replica identity of a load that
// updates rows.
func TestReplicaIdentityThatIsNeeded(t *testing.T) {
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	want := indexed(t, url)
	loadertest.Exec(t, url, "ALTER TABLE points REPLICA IDENTITY USING INDEX by_yz", "CREATE PUBLICATION p FOR TABLE points")
	req := fileRequest("points", write(t, "x.csv", "id,x,y,z\n1,1,1,1\n1,2,2,2\n"))
	filesOf(req).Conflict, req.Indexes = commit.UpdateRow, load.DeferIndexes
	_, err := load.New(context.Background(), loadertest.Open(t, url), req)
	if err == nil || !strings.Contains(err.Error(), "by_yz") || !strings.Contains(err.Error(), "replica identity") {
		t.Errorf("got %v, want a refusal", err)
	}
	checkIndexes(t, url, want)
}
