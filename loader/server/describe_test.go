package server_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

func TestParseTable(t *testing.T) {
	long := strings.Repeat("x", 70)
	for text, want := range map[string]pgx.Identifier{
		"points": {"points"}, "Shop.Orders": {"shop", "orders"}, `"Shop"."Or.ders"`: {"Shop", "Or.ders"}, `"We""ird".t`: {`We"ird`, "t"},
		"db.public.t": {"db", "public", "t"}, `ev"il; drop table p; --`: {`ev"il; drop table p; --`}, "größe": {"größe"}, "ÄB": {"Äb"}, long: {long}, `" "`: {" "},
	} {
		got, err := server.ParseTable(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "a.", ".a", "a..b", `"a`, `""`, `"a"b`, "a.b.c.d", "a\x00b", "\xff"} {
		if got, err := server.ParseTable(text); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %q and %v, want one line of error", text, got, err)
		}
	}
}

// TestTablesOfAllNames describes tables whose names are hostile, and loads nothing
// but them.
func TestTablesOfAllNames(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		conn := connect(t, s)
		exec(t, conn, `CREATE SCHEMA "We""ird"`, "CREATE TABLE p (id INT8 PRIMARY KEY)")
		long := strings.Repeat("ü", 40) // 80 bytes: PostgreSQL cuts the name to 62
		for name, want := range map[string]pgx.Identifier{
			`"We""ird".t`: {`We"ird`, "t"}, `"ev""il; drop table p; --"`: {"public", `ev"il; drop table p; --`}, `"Größe, (x)"`: {"public", "Größe, (x)"},
			`"` + long + `"`: {"public", long},
		} {
			id, err := server.ParseTable(name)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, conn, "CREATE TABLE "+id.Sanitize()+" (id INT8 PRIMARY KEY, v TEXT)", "CREATE INDEX ON "+id.Sanitize()+" (v)")
			if !s.Cockroach {
				want[1] = strings.ToValidUTF8(want[1][:min(len(want[1]), 63)], "")
			}
			table := describe(t, conn, name)
			if !slices.Equal(table.Name, want) || len(table.Indexes) != 2 || !slices.Equal(table.Primary, []string{"id"}) {
				t.Errorf("%s: got %q with indexes %+v, want %q", name, table.Name, table.Indexes, want)
			}
		}
		describe(t, conn, "p") // still there
	})
}

func TestSearchPathDecides(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		conn := connect(t, s)
		exec(t, conn, "CREATE SCHEMA zz", "CREATE TABLE zz.t (a INT8 PRIMARY KEY)", "CREATE TABLE public.t (b INT8 PRIMARY KEY)", "SET search_path = zz, public")
		if got := describe(t, conn, "t").Name; !slices.Equal(got, pgx.Identifier{"zz", "t"}) {
			t.Errorf("got %q, want the table of the first schema", got)
		}
	})
}

func TestWhatIsNoTable(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		conn := connect(t, s)
		exec(t, conn, "CREATE TABLE t (id INT8 PRIMARY KEY, v INT8)", "CREATE VIEW v AS SELECT id FROM t", "CREATE MATERIALIZED VIEW m AS SELECT id FROM t", "CREATE SEQUENCE s")
		want := map[string]string{"v": "is a view", "m": "is a materialized view", "s": "is a sequence", "nope": "no such table", "nope.t": "no such table", "other.public.t": "no such table: other.public.t: the connection is to database"}
		if !s.Cockroach {
			exec(t, conn, "CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER far FOREIGN DATA WRAPPER w", "CREATE FOREIGN TABLE f (id INT8) SERVER far")
			want["f"] = "is a foreign table"
			want["t_pkey"] = "is an index"
		}
		for name, text := range want {
			id, err := server.ParseTable(name)
			if err != nil {
				t.Fatal(err)
			}
			_, err = server.Describe(context.Background(), conn, infoOf(t, conn), id)
			var target *server.TargetError
			if !errors.As(err, &target) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v, want a TargetError with %q", name, err, text)
			}
			if got, want := errors.Is(err, server.ErrNoTable), strings.Contains(text, "no such"); got != want {
				t.Errorf("%s: ErrNoTable is %v, want %v", name, got, want)
			}
		}
	})
}

func TestDescribeOnPostgreSQL(t *testing.T) {
	conn := connect(t, loadertest.PostgreSQLServer(t))
	exec(t, conn, "CREATE TYPE mood AS ENUM ('good', 'bad')", "CREATE TABLE up (id INT8 PRIMARY KEY)",
		`CREATE TABLE t (a INT8, b INT4 GENERATED ALWAYS AS IDENTITY, c TEXT DEFAULT 'x,''y', d INT8 GENERATED ALWAYS AS (a * 2) STORED, e mood NOT NULL, up INT8 REFERENCES up,
			PRIMARY KEY (e, a) DEFERRABLE, CONSTRAINT "u,1" UNIQUE (c, b) DEFERRABLE INITIALLY DEFERRED)`,
		`CREATE INDEX "i;1" ON t (a DESC, lower(c)) INCLUDE (d) WHERE a > 3`, "CREATE INDEX g ON t USING gin (to_tsvector('english', c))",
		"CREATE TABLE down (k TEXT, e mood, a INT8)", "CREATE UNIQUE INDEX plain ON t (a)", "ALTER TABLE down ADD FOREIGN KEY (a) REFERENCES t (a)",
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
		"CREATE TRIGGER off BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", "ALTER TABLE t DISABLE TRIGGER off", "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	got := describe(t, conn, "t")
	if !slices.Equal(got.Primary, []string{"e", "a"}) || !got.Deferrable || got.Kind != "r" || !got.Empty || got.EmptyErr != nil || got.EstimatedRows != -1 {
		t.Errorf("got %+v", got)
	}
	for i, want := range []server.Column{
		{Name: "a", Type: "bigint", SQLType: "bigint", TypeOID: 20, NotNull: true},
		{Name: "b", Type: "integer", SQLType: "integer", TypeOID: 23, NotNull: true, Default: true, Identity: true, Always: true},
		{Name: "c", Type: "text", SQLType: "text", TypeOID: 25, Default: true, Expr: "'x,''y'::text"},
		{Name: "d", Type: "bigint", SQLType: "bigint", TypeOID: 20, Default: true, Expr: "(a * 2)", Generated: true},
		{Name: "e", Type: "mood", SQLType: "mood", TypeOID: got.Column("e").TypeOID, NotNull: true, Labels: 2},
		{Name: "up", Type: "bigint", SQLType: "bigint", TypeOID: 20},
	} {
		want.Base = want.Type // no domains
		if got.Columns[i] != want {
			t.Errorf("column %d: got %+v, want %+v", i, got.Columns[i], want)
		}
	}
	if x := tableIndex(t, got, "i;1"); !slices.Equal(x.Columns, []string{"a", ""}) || !slices.Equal(x.Desc, []bool{true, false}) || !slices.Equal(x.Exprs, []string{"", "lower(c)"}) || !slices.Equal(x.Storing, []string{"d"}) || !x.Where || x.Unique || x.Method != "btree" {
		t.Errorf("got %+v", x)
	}
	if x := tableIndex(t, got, "u,1"); !x.Unique || !x.Constraint || !x.Deferrable {
		t.Errorf("got %+v", x)
	}
	if len(got.ForeignKeys) != 1 || got.ForeignKeys[0].Table != "up" || len(got.ReferencedBy) != 1 || got.ReferencedBy[0].Table != "down" {
		t.Errorf("got references %+v and %+v", got.ForeignKeys, got.ReferencedBy)
	}
	if !slices.Equal(got.Triggers, []string{"tr"}) || !got.RowSecurity || got.Rules {
		t.Errorf("got triggers %q, row security %v, rules %v", got.Triggers, got.RowSecurity, got.Rules)
	}
	exec(t, conn, "DROP TABLE down")
	checkIndexesComeBack(t, conn, "t")

	exec(t, conn, "CREATE TABLE parts (id INT8 PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
		"CREATE TEMP TABLE tmp (a INT8)", "INSERT INTO parts VALUES (1)", "ANALYZE parts, part1", "CREATE RULE r AS ON INSERT TO up DO ALSO NOTHING")
	parts, part1, tmp := describe(t, conn, "parts"), describe(t, conn, "part1"), describe(t, conn, "tmp")
	if parts.Kind != "p" || parts.Partition || parts.Empty || !part1.Partition || part1.EstimatedRows != 1 || !tmp.Temporary || tmp.Primary != nil || !describe(t, conn, "up").Rules {
		t.Errorf("got %+v, %+v, %+v", parts, part1, tmp)
	}
}

// checkIndexesComeBack drops all secondary indexes by Drop, makes them again by
// Create, and compares the description with the one before.
func checkIndexesComeBack(t *testing.T, conn *pgx.Conn, name string) {
	t.Helper()
	before := describe(t, conn, name)
	for _, x := range before.Indexes {
		if x.Primary {
			if x.Create != "" || x.Drop != "" {
				t.Errorf("the primary key would be dropped: %+v", x)
			}
			continue
		}
		exec(t, conn, x.Drop)
	}
	if n := len(describe(t, conn, name).Indexes); n != 1 {
		t.Fatalf("%d indexes are left, want the primary one", n)
	}
	for _, x := range before.Indexes {
		if !x.Primary {
			exec(t, conn, x.Create)
		}
	}
	after := describe(t, conn, name)
	if len(after.Indexes) != len(before.Indexes) {
		t.Fatalf("%d indexes came back of %d", len(after.Indexes), len(before.Indexes))
	}
	for i, want := range before.Indexes {
		got := after.Indexes[i]
		if got.Create != want.Create || !slices.Equal(got.Columns, want.Columns) || !slices.Equal(got.Storing, want.Storing) || got.Unique != want.Unique || got.Where != want.Where {
			t.Errorf("index %s came back as %+v, want %+v", want.Name, got, want)
		}
	}
}

func TestDescribeOnCockroachDB(t *testing.T) {
	conn := connect(t, loadertest.CockroachServer(t))
	exec(t, conn, "SET experimental_enable_hash_sharded_indexes = on", "CREATE TYPE mood AS ENUM ('good', 'bad')", "CREATE TABLE up (id INT8 PRIMARY KEY)",
		`CREATE TABLE "We""ird, T" (id INT8 PRIMARY KEY USING HASH WITH BUCKET_COUNT = 8, j JSONB, a INT8[], e mood NOT NULL, s STRING COLLATE en,
			v STRING(7) DEFAULT e'it\'s, \\x (', l STRING AS (lower(v)) VIRTUAL, st STRING AS (upper(v)) STORED, f FLOAT8 NOT NULL, up INT8 REFERENCES up,
			FAMILY "f,1" (id, e), FAMILY f2 (j, a, s, up), FAMILY f3 (v, st, f), INVERTED INDEX inv (j),
			UNIQUE INDEX "u,x" (e DESC, v) STORING (f, a) WHERE f > 1 AND v != ',)(WHERE ', INDEX h (f) USING HASH WITH BUCKET_COUNT = 4, INDEX (s), INDEX li (l DESC), CHECK (f > -1))`)
	got := describe(t, conn, `"We""ird, T"`)
	if !slices.Equal(got.Primary, []string{"crdb_internal_id_shard_8", "id"}) || got.HiddenKey() || !got.Empty || len(got.Indexes) != 6 || len(got.Notes) > 0 {
		t.Errorf("got %+v", got)
	}
	if c := got.Column("v"); c.SQLType != "STRING(7)" || c.TypeOID != 25 || c.NotNull || !c.Default || c.Generated {
		t.Errorf("got %+v", c)
	}
	if c := got.Column("crdb_internal_id_shard_8"); !c.Hidden || !c.Generated || !c.Default || !c.NotNull {
		t.Errorf("got %+v", c)
	}
	if c := got.Column("e"); c.Labels != 2 || !c.NotNull {
		t.Errorf("got %+v", c)
	}
	if x := tableIndex(t, got, "u,x"); !x.Unique || !x.Where || !slices.Equal(x.Columns, []string{"e", "v"}) || !slices.Equal(x.Desc, []bool{true, false}) || !slices.Equal(x.Storing, []string{"f", "a"}) {
		t.Errorf("got %+v", x)
	}
	if x := tableIndex(t, got, "h"); x.Implicit != 1 || !slices.Equal(x.Columns, []string{"crdb_internal_f_shard_4", "f"}) || x.Where {
		t.Errorf("got %+v", x)
	}
	if x := tableIndex(t, got, "inv"); !x.Inverted || x.Method != "inverted" {
		t.Errorf("got %+v", x)
	}
	var families []string
	for _, f := range got.Keys.Families {
		families = append(families, f.Name)
	}
	if !slices.Equal(families, []string{"f,1", "f2", "f3"}) || !got.Keys.Families[2].NotNull || got.Keys.Families[1].NotNull || got.Keys.TenantID != 1 {
		t.Errorf("got %+v", got.Keys)
	}
	if len(got.ForeignKeys) != 1 || got.ForeignKeys[0].Table != "up" {
		t.Errorf("got references %+v", got.ForeignKeys)
	}
	if up := describe(t, conn, "up"); len(up.ReferencedBy) != 1 {
		t.Errorf("got references %+v", up.ReferencedBy)
	}
	checkIndexesComeBack(t, conn, `"We""ird, T"`)

	exec(t, conn, "CREATE TABLE norow (a INT8)", "INSERT INTO norow VALUES (1)", "CREATE STATISTICS st FROM norow")
	norow := describe(t, conn, "norow")
	if !norow.HiddenKey() || norow.Empty || norow.EstimatedRows != 1 || !norow.Column("rowid").Hidden {
		t.Errorf("got %+v", norow)
	}
}

// TestDescribeWithoutRights holds what a user sees who may read the table's
// description and not much else.
func TestDescribeWithoutRights(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		address := s.NewDatabase(t)
		conn := loadertest.Connect(t, address)
		exec(t, conn, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)", "CREATE INDEX i ON t (v)", "DROP USER IF EXISTS poor", "CREATE USER poor"+map[bool]string{false: " PASSWORD 'p'"}[s.Cockroach], "GRANT INSERT ON t TO poor")
		t.Cleanup(func() { exec(t, conn, "DROP TABLE t", "DROP USER poor") })
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User("poor")
		if !s.Cockroach {
			u.User = url.UserPassword("poor", "p")
		}
		poor := loadertest.Connect(t, u.String())
		got := describe(t, poor, "t")
		if got.Empty || server.Code(got.EmptyErr) != "42501" || len(got.Indexes) != 2 {
			t.Errorf("got %+v", got)
		}
		for _, l := range server.Limits(context.Background(), poor, infoOf(t, poor)) {
			if strings.HasPrefix(l.Name, "kv.") && (!strings.HasPrefix(l.Origin, "default of") || !strings.Contains(l.Origin, "may not read") || l.Max < 1) {
				t.Errorf("got %+v, want the default, and that it is one", l)
			}
		}
	})
}

func TestLimitsOfTheServers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		conn := connect(t, s)
		limits := server.Limits(context.Background(), conn, infoOf(t, conn))
		want := map[string]int64{"bind parameters": 65535, "the largest message": 1<<30 - 1<<20}
		if s.Cockroach {
			want = map[string]int64{server.OnePhase: 9999, server.IntentSetting: 262_143, "bind parameters": 65535, "sql.conn.max_read_buffer_message_size": 16 << 20, "kv.raft.command.max_size": 32 << 20}
		}
		if info := infoOf(t, conn); s.Cockroach && (info.Major != 21 || info.Minor != 1) {
			t.Skipf("the values are those of 21.1, not of %s", info)
		}
		got := map[string]int64{}
		for _, l := range limits {
			got[l.Name] = l.Max
			if l.Origin == "" || l.Soft != (l.Name == server.OnePhase) {
				t.Errorf("got %+v", l)
			}
			if strings.Contains(l.Name, "_") && !strings.HasPrefix(l.Origin, "read from the server") {
				t.Errorf("got %+v, want it read", l)
			}
		}
		for name, max := range want {
			if got[name] != max {
				t.Errorf("%s: got %d, want %d", name, got[name], max)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
