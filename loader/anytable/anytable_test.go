package anytable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"bulkload/loader"
	"bulkload/loader/anytable"
	"bulkload/loader/failure"
	"bulkload/loader/importer"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// common are columns that both servers have.
const common = `small SMALLINT NOT NULL, int INT CHECK (int BETWEEN -5 AND 5), big INT8 CHECK (big > 10), quantity INT NOT NULL,
	price NUMERIC(8,2) NOT NULL CHECK (price >= 0.01), ratio REAL, score FLOAT8, active BOOLEAN NOT NULL, code CHAR(4), short VARCHAR(3), name TEXT NOT NULL,
	long VARCHAR(200) CHECK (char_length(long) >= 12), status TEXT CHECK (status IN ('new', 'paid', 'it''s gone')), mood mood,
	born DATE CHECK (born < '2000-01-01'), at TIME, made TIMESTAMP, created_at TIMESTAMPTZ NOT NULL, ended_at TIMESTAMPTZ, pause INTERVAL, ref UUID, raw BYTEA, data JSONB,
	ip INET, bits BIT(7), more_bits VARBIT(9), numbers INT[], words VARCHAR(5)[], email VARCHAR(80) UNIQUE, a INT NOT NULL, b CHAR(3) NOT NULL, c BOOLEAN NOT NULL,
	CHECK (ended_at >= created_at), UNIQUE (a, b, c)`

// others are columns that PostgreSQL alone has.
const others = `, made_up INT GENERATED ALWAYS AS (small + 1) STORED, always INT8 GENERATED ALWAYS AS IDENTITY UNIQUE, net CIDR, mac MACADDR, mac8 MACADDR8, money MONEY, during TSRANGE, ages INT4RANGE,
	place POINT, box BOX, circle CIRCLE, search TSVECTOR, doc XML, level level NOT NULL, moods mood[], EXCLUDE USING gist (during WITH &&)`

// checksum returns the number of a table's rows, and a hash of all values, whatever their order.
func checksum(t *testing.T, url, table string) string {
	t.Helper()
	columns := loadertest.Value[string](t, url, `SELECT string_agg('COALESCE(' || quote_ident(attname) || '::TEXT, ''~'')', ', ' ORDER BY attname) FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::TEXT::REGCLASS AND attnum > 0 AND NOT attisdropped`, table)
	return loadertest.Value[string](t, url, fmt.Sprintf("SELECT count(*) || ' ' || md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5(concat_ws('|', %s)) AS h FROM %s) AS x", columns, table))
}

// fill returns a new load.
func fill(t *testing.T, url, table string, n int64, s load.Settings) *load.Load {
	t.Helper()
	l, err := load.New(context.Background(), loadertest.Open(t, url), request(table, n, s))
	if err != nil {
		t.Fatalf("%s: %v", table, err)
	}
	t.Cleanup(l.Close)
	return l
}

func request(table string, n int64, s load.Settings) load.Request {
	return load.Request{Dataset: anytable.New(anytable.Request{Rows: n, Seed: 7, Nulls: 0.2}), Table: table, Settings: s}
}

// run runs a load to its end.
func run(t *testing.T, l *load.Load) {
	t.Helper()
	if _, err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestFillsAnyTable fills a table of all ordinary types, keys and constraints: whatever the
// chunks, the workers, a stop, and several runs at once, the rows are the same. A second load of
// the same seed takes other keys.
func TestFillsAnyTable(t *testing.T) {
	ctx := context.Background()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url, columns := s.NewDatabase(t), common
		loadertest.Exec(t, url, "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')")
		if !s.Cockroach {
			loadertest.Exec(t, url, "CREATE DOMAIN level AS INT NOT NULL CHECK (VALUE IN (10, 20, 30))")
			columns += others
		}
		loadertest.Exec(t, url,
			"CREATE TABLE plain (id INT8 PRIMARY KEY, "+columns+")",
			"CREATE TABLE stopped (id INT8 PRIMARY KEY, "+columns+")",
			"CREATE TABLE parts (plain INT8 NOT NULL REFERENCES plain, kind UUID NOT NULL, note TEXT, PRIMARY KEY (plain, kind))",
			"CREATE TABLE bare (s TEXT, n INT)")
		const n = 400
		first := fill(t, url, "plain", n, load.Settings{Chunk: n, Workers: 1})
		run(t, first)
		want := checksum(t, url, "plain")
		if !strings.HasPrefix(want, fmt.Sprint(n, " ")) {
			t.Fatalf("the checksum is %s, want %d rows", want, n)
		}

		stop := make(chan struct{})
		var once sync.Once
		begun := fill(t, url, "stopped", n, load.Settings{Chunk: 77, Workers: 2, Stop: stop, Observe: func(loader.Event) { once.Do(func() { close(stop) }) }})
		if _, err := begun.Run(ctx); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("the load was not stopped: %v", err)
		}
		resumedByTwo(t, url, begun.ID, load.Settings{Chunk: 100}, load.Settings{Chunk: 250})
		if got := checksum(t, url, "stopped"); got != want {
			t.Errorf("with other chunks, after a stop and by two runs the table is %s, want %s", got, want)
		}

		// Keys of its own beside those that are there, also in the other unique keys.
		run(t, fill(t, url, "plain", n, load.Settings{}))
		if got := loadertest.Value[int64](t, url, "SELECT count(DISTINCT email) FROM plain"); got != 2*n {
			t.Errorf("two loads give %d different values of a unique column, want %d", got, 2*n)
		}
		run(t, fill(t, url, "parts", n, load.Settings{}))
		run(t, fill(t, url, "bare", n, load.Settings{}))
		if got := loadertest.Value[int64](t, url, "SELECT count(*) FROM parts p JOIN plain ON plain.id = p.plain"); got != n {
			t.Errorf("%d rows of a child have a parent, want %d", got, n)
		}
		nulls := loadertest.Value[int64](t, url, "SELECT count(*) FROM plain WHERE score IS NULL")
		if share := float64(nulls) / (2 * n); share < 0.1 || share > 0.3 {
			t.Errorf("%d of %d values are NULL, want about a fifth", nulls, 2*n)
		}
		for _, id := range []string{first.ID, begun.ID} {
			l, err := load.Resume(ctx, loadertest.Open(t, url), id, load.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.Close)
			if got, err := l.Verify(ctx, nil); err != nil || !got.OK() || got.Same != n {
				t.Errorf("verified %+v, %v; want %d rows", got, err, n)
			}
		}
	})
}

// TestRefusesBeforeTheFirstRow holds for tables that cannot be filled as asked: one line says
// why, and nothing is written.
func TestRefusesBeforeTheFirstRow(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		loadertest.Exec(t, url,
			"CREATE TABLE empty (id INT PRIMARY KEY)",
			"CREATE TABLE child (id INT PRIMARY KEY, parent INT NOT NULL REFERENCES empty)",
			"CREATE TABLE narrow (flag BOOLEAN PRIMARY KEY)",
			"CREATE TABLE pairs (a BOOLEAN, b BOOLEAN, PRIMARY KEY (a, b))",
			"CREATE TABLE never (id INT PRIMARY KEY, x INT CHECK (x > 5), CHECK (x < 3))",
			"CREATE TABLE odd (id INT PRIMARY KEY, x INT NOT NULL CONSTRAINT odd_rule CHECK (x % 700001 = 3))",
			"CREATE TABLE nodes (id INT PRIMARY KEY, above INT NOT NULL UNIQUE REFERENCES nodes)",
			"CREATE TABLE keyless (x INT, id SERIAL)", "CREATE TABLE tree (id INT PRIMARY KEY, above INT REFERENCES tree)",
			"CREATE TABLE full_up (b CHAR(1) PRIMARY KEY)", "INSERT INTO full_up VALUES ('0'), ('a'), ('m'), ('z')")
		database := loadertest.Value[string](t, url, "SELECT current_database()")
		cases := []struct {
			table, want string
			n           int64
			kind        failure.Kind
			set         load.Settings
		}{
			{"nosuch", "no such table: nosuch in database " + database + "; loader rows needs an existing table", 9, failure.Target, load.Settings{}},
			{"child", "refers to public.empty, which has no rows; load public.empty first", 9, failure.Target, load.Settings{}},
			{"narrow", "9 rows are more than the key can hold: column flag has 2 different values", 9, failure.Target, load.Settings{}},
			{"pairs", "9 rows are more than the key can hold", 9, failure.Target, load.Settings{}},
			{"never", "no value of column x can meet its CHECK constraints", 9, failure.Target, load.Settings{}},
			{"odd", "table public.odd refuses the generated rows: ", 9, failure.Target, load.Settings{}},
			{"nodes", "refers to the table itself and allows no NULL, but loader cannot compute keys", 9, failure.Target, load.Settings{}},
			{"full_up", "has too many rows: no free range", 30, failure.Target, load.Settings{}},
			{"keyless", "--commit statement needs a primary key of public.keyless", 9, failure.Target, load.Settings{CommitMode: "statement"}},
			{"tree", "--commit statement cannot be used where chunks are committed one after the other", 9, failure.Target, load.Settings{CommitMode: "statement"}},
		}
		if s.Cockroach {
			cases = append(cases, []struct {
				table, want string
				n           int64
				kind        failure.Kind
				set         load.Settings
			}{
				{"full_up", "--via import: public.full_up has rows, beside which the rows of IMPORT cannot be counted", 9, failure.Target, load.Settings{Method: load.Import}},
				{"never", "no value of column x can meet its CHECK constraints", 9, failure.Target, load.Settings{Method: load.Import}},
				{"pairs", "loader rows cannot import from URLs", 3, failure.Usage, load.Settings{Method: load.Import, ImportOptions: importer.Options{Mode: importer.URLs, Files: []string{"nodelocal://1/x.csv"}}}},
				{"empty", "loader rows cannot use --via copy on CockroachDB", 9, failure.Usage, load.Settings{Method: "copy"}},
			}...)
		}
		for _, c := range cases {
			_, err := load.New(context.Background(), loadertest.Open(t, url), request(c.table, c.n, c.set))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: the error is %v, want one line with %q", c.table, err, c.want)
			} else if got := failure.Of(err); got != c.kind {
				t.Errorf("%s: the error %v is of kind %v, want %v", c.table, err, got, c.kind)
			}
		}
		for _, table := range []string{"empty", "child", "narrow", "odd", "loader.loads"} {
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+table); n != 0 {
				t.Errorf("%s has %d rows, want none", table, n)
			}
		}
	})
}

// TestValuesThatAreAskedFor makes values by the rules of --value, and refuses rules that the table
// does not take.
func TestValuesThatAreAskedFor(t *testing.T) {
	ctx := context.Background()
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE asked (id INT8 PRIMARY KEY, status TEXT NOT NULL, total NUMERIC(8,2) NOT NULL, day DATE NOT NULL, views INT4, code TEXT UNIQUE, gone TEXT, odd INT NOT NULL CHECK (odd % 7 = 3))")
		with := func(n int64, texts ...string) load.Request {
			r := anytable.Request{Rows: n, Seed: 7}
			for _, text := range texts {
				v, err := anytable.ParseValue(text)
				if err != nil {
					t.Fatal(err)
				}
				r.Values = append(r.Values, v)
			}
			return load.Request{Dataset: anytable.New(r), Table: "asked"}
		}
		l, err := load.New(ctx, loadertest.Open(t, url), with(1000, "id=sequence(100,5)", "status=list(new,paid:3)", "total=normal(1,500)", "day=uniform(2024-01-01,2024-01-31)", "views=zipf(1,1000)", "code=pattern(no-{n})", "gone=null", "odd=const(10)"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		run(t, l)
		if got, err := l.Verify(ctx, nil); err != nil || !got.OK() || got.Same != 1000 {
			t.Errorf("verified %+v, %v; want 1000 rows", got, err)
		}
		got := loadertest.Value[string](t, url, `SELECT concat_ws(' ', min(id)::TEXT, max(id)::TEXT, (count(*) FILTER (WHERE status = 'paid') BETWEEN 650 AND 850)::TEXT, (avg(total) BETWEEN 200 AND 300)::TEXT,
			(count(*) FILTER (WHERE total < 50) < 50)::TEXT, min(day)::TEXT, max(day)::TEXT, (count(*) FILTER (WHERE views <= 31) BETWEEN 300 AND 700)::TEXT, count(gone)::TEXT, count(DISTINCT code)::TEXT, min(code)) FROM asked`)
		if want := "100 5095 true true true 2024-01-01 2024-01-31 true 0 1000 no-00"; got != want {
			t.Errorf("the values are %s, want %s", got, want)
		}
		for text, want := range map[string]string{
			"nope=null": "has no such column", "id=null": "the column is NOT NULL", "total=uniform(5,1)": "no such range", "total=uniform(a,b)": `"a" is not a number`,
			"views=sequence(2147483640)": "100 values of it do not fit integer", "status=zipf(1,2)": "has no order", "odd=const(11)": "--value COLUMN=RULE sets other values",
		} {
			if _, err := load.New(ctx, loadertest.Open(t, url), with(100, text)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error is %v, want %q", text, err, want)
			}
		}
		for _, text := range []string{"x", "=null", "a=foo(3)", "a=null(1)", "a=const", "a=list(b:x)", "a=uniform(1)", "a=sequence(1,2,3)", "a=pattern({nope})", "a=pattern({)"} {
			if _, err := anytable.ParseValue(text); err == nil {
				t.Errorf("%q is taken", text)
			}
		}
	})
}

// TestFillsTablesThatDependOnEachOther fills parents before their children, keys that fit narrower
// columns, cycles through a column that may be NULL, a table that points to itself, and CHECKs
// with alternatives.
func TestFillsTablesThatDependOnEachOther(t *testing.T) {
	ctx := context.Background()
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url,
			"CREATE TABLE boss (id INT8 PRIMARY KEY, dept INT8)",
			"CREATE TABLE dept (id INT8 PRIMARY KEY, boss INT8 NOT NULL REFERENCES boss)",
			"ALTER TABLE boss ADD CONSTRAINT boss_dept FOREIGN KEY (dept) REFERENCES dept",
			"CREATE TABLE wide (id INT8 PRIMARY KEY, above INT8 REFERENCES wide, kind CHAR(2) NOT NULL CHECK (kind IS NULL OR upper(kind) IN ('AB', 'CD')), a INT, CHECK (a IS NULL AND above IS NULL OR a >= 7))",
			"CREATE TABLE narrow (id INT PRIMARY KEY, wide SMALLINT NOT NULL REFERENCES wide, other INT8 NOT NULL REFERENCES wide)",
			"CREATE TABLE both_sides (narrow INT REFERENCES narrow, dept INT8 REFERENCES dept, PRIMARY KEY (narrow, dept))")
		names := []string{"dept", "both_sides", "narrow", "boss", "wide"}
		order, err := anytable.Order(ctx, loadertest.Open(t, url), names)
		if err != nil || fmt.Sprint(order) != "[{4 []} {2 []} {3 []} {0 []} {1 []}]" {
			t.Fatalf("the order is %v, %v; want wide, narrow, boss, dept, both_sides", order, err)
		}
		const n = 60
		for _, step := range order {
			i := step.Table
			run(t, fill(t, url, names[i], n, load.Settings{Chunk: 25}))
			if got := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+names[i]); got != n {
				t.Errorf("%s has %d rows, want %d", names[i], got, n)
			}
		}
	})
}

// resumedByTwo resumes a load by two runs at once, which share it to its end.
func resumedByTwo(t *testing.T, url, id string, first, second load.Settings) {
	t.Helper()
	var runs sync.WaitGroup
	for _, set := range []load.Settings{first, second} {
		again, err := load.Resume(t.Context(), loadertest.Open(t, url), id, set)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(again.Close)
		runs.Go(func() {
			if _, err := again.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
}
