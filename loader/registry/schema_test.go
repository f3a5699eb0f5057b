package registry_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/chunker"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// earlier are the registries that versions of this repository made, each by its number of
// tables: the files of testdata/earlier have their statements, in the order in which
// they came.
var earlier = []struct {
	name  string
	files []string
}{
	{"4 tables", []string{"1-base.sql"}},
	{"5 tables", []string{"1-base.sql", "2-indexes.sql"}},
	{"6 tables", []string{"1-base.sql", "2-indexes.sql", "3-tuning.sql"}},
	{"7 tables", []string{"1-base.sql", "2-indexes.sql", "3-tuning.sql", "4-rejects.sql"}},
}

// makeEarlier makes the registry of an earlier version with a load of 100 positions in it:
// 40 are in and recorded, a dead run holds the others, of which 10 are in by its checkpoint
// and 10 by the ledger.
func makeEarlier(t *testing.T, url string, files []string) {
	t.Helper()
	for _, name := range files {
		text, err := os.ReadFile("testdata/earlier/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range strings.Split(string(text), ";") {
			if strings.TrimSpace(sql) != "" {
				loadertest.Exec(t, url, sql)
			}
		}
	}
	loadertest.Exec(t, url,
		"INSERT INTO loader.loads (id, what, target, state, positions, done, spec) VALUES ('older000', 'points', 'public.points', 'loading', 100, '0-40', '{}')",
		"INSERT INTO loader.claims (load, lo, hi, run, done, beat) VALUES ('older000', 40, 100, 'dead0000', '40-50', now() - INTERVAL '1 hour')",
		"INSERT INTO loader.ledger (load, lo, hi) VALUES ('older000', 50, 60)")
}

// catalogue returns the columns of the registry, as a text to compare.
func catalogue(t *testing.T, url string) string {
	t.Helper()
	return loadertest.Value[string](t, url, `SELECT string_agg(c, ', ' ORDER BY c) FROM (
		SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || COALESCE(column_default, '') AS c
		FROM information_schema.columns WHERE table_schema = 'loader') AS x`)
}

// openRead returns the registry of a database as it is, through a user's sessions.
func openRead(t *testing.T, url string) (*registry.Registry, *pgxpool.Pool, error) {
	t.Helper()
	srv := loadertest.Open(t, url)
	pool, err := srv.Pool(t.Context(), server.Sessions{Name: "test", Max: 2, Ready: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	reg, err := registry.Open(t.Context(), pool, srv.Info)
	return reg, pool, err
}

// checkReads reads all that a registry tells without a load going on.
func checkReads(t *testing.T, reg *registry.Registry) {
	t.Helper()
	id := "older000"
	if list, err := reg.List(t.Context()); err != nil || len(list) != 1 || list[0].ID != id {
		t.Errorf("the list has %d loads, %v; want one", len(list), err)
	}
	if in, err := reg.In(t.Context(), id); err != nil || in.String() != "0-60" {
		t.Errorf("%s are in, %v; want 0-60", in.String(), err)
	}
	_, get := reg.Get(t.Context(), id)
	_, count := reg.CountRejects(t.Context(), id)
	each := reg.EachReject(t.Context(), id, func(rows.Reject) error { return nil })
	_, deferred := reg.Deferred(t.Context(), id)
	_, moved := reg.Rekeyed(t.Context(), id, chunker.Range{End: 100})
	_, _, tuning := reg.Tuning(t.Context(), "public.points", "points")
	if err := errors.Join(get, count, each, deferred, moved, tuning); err != nil {
		t.Error(err)
	}
}

// TestEarlierRegistries reads registries of all earlier versions as they are, also as a user
// who may not upgrade them, and upgrades them by the first write. Their loads go on.
func TestEarlierRegistries(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		fresh := s.NewDatabase(t)
		open(t, fresh)
		for _, version := range earlier {
			t.Run(version.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				user, as := s.NewUser(t, url)
				loadertest.Exec(t, url, "CREATE SCHEMA loader", "GRANT USAGE ON SCHEMA loader TO "+user)
				makeEarlier(t, url, version.files)
				before := catalogue(t, url)
				reg, _, err := openRead(t, url)
				if err != nil {
					t.Fatal(err)
				}
				checkReads(t, reg)
				loadertest.Exec(t, url, "GRANT SELECT, INSERT, UPDATE, DELETE ON loader.loads, loader.claims, loader.ledger, loader.moved TO "+user)
				other, _, err := openRead(t, as)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := other.Deferred(t.Context(), "older000"); err != nil && server.Code(err) != "42501" {
					t.Error(err)
				}
				if in, err := other.In(t.Context(), "older000"); err != nil || in.Len() != 60 {
					t.Errorf("a user who may not upgrade the registry: %d are in, %v; want 60", in.Len(), err)
				}
				var schema *registry.SchemaError
				if _, err := other.Queue("older000", "other000").Claim(t.Context(), 100); !errors.As(err, &schema) {
					t.Errorf("a user who may not upgrade the registry claims: %v, want a SchemaError", err)
				}
				if got := catalogue(t, url); got != before {
					t.Errorf("reading has changed the registry: %s, want %s", got, before)
				}
				if _, err := registry.Create(t.Context(), poolOf(t, url), loadertest.Open(t, url).Info); err != nil {
					t.Fatal(err)
				}
				if got, want := catalogue(t, url), catalogue(t, fresh); got != want {
					t.Errorf("an upgraded registry is\n%s, want as a new one\n%s", got, want)
				}
				q := reg.Queue("older000", "newer000")
				q.Ledger = true
				c := lease(t, q, 40)
				if c.First != 60 {
					t.Errorf("positions from %d are claimed, want from 60: the others are in", c.First)
				}
				loadertest.Exec(t, url, "INSERT INTO loader.ledger (load, lo, hi) VALUES ('older000', 60, 100)")
				if err := q.Release(t.Context(), c); err != nil {
					t.Error(err)
				}
				if l, err := reg.Get(t.Context(), "older000"); err != nil || l.State != registry.Done {
					t.Errorf("the load is %s, %v; want done", l.State, err)
				}
			})
		}
	})
}

// poolOf returns sessions with a database.
func poolOf(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := loadertest.Open(t, url).Pool(t.Context(), server.Sessions{Name: "test", Max: 2, Ready: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestUpgradeThatStopped ends an upgrade at each of its statements: the next one does the
// rest, and several at once do not disturb one another.
func TestUpgradeThatStopped(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, fresh := s.NewDatabase(t), s.NewDatabase(t)
		open(t, fresh)
		makeEarlier(t, url, earlier[0].files)
		for n := 1; ; n++ {
			var pools []*pgxpool.Pool // the server has no session for all of the rounds
			poolOf := func(t *testing.T, url string) *pgxpool.Pool {
				pools = append(pools, poolOf(t, url))
				return pools[len(pools)-1]
			}
			proxy := loadertest.NewProxy(t, url)
			pool, info := poolOf(t, proxy.URL()), loadertest.Open(t, url).Info
			proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `^(CREATE|ALTER|INSERT)`, Kind: loadertest.MsgStatement}, Nth: n, Times: -1, Do: loadertest.Inject, Code: "0A000"})
			if _, err := registry.Create(t.Context(), pool, info); err == nil {
				if n < 6 {
					t.Errorf("the upgrade had %d statements, want 6 at least", n-1)
				}
				break
			}
			reg, read, err := openRead(t, url)
			if err != nil {
				t.Fatal(err)
			}
			checkReads(t, reg)
			read.Close()
			// The next begins where this one ended.
			loadertest.Exec(t, url, "DROP SCHEMA loader CASCADE")
			makeEarlier(t, url, earlier[0].files)
			proxy = loadertest.NewProxy(t, url)
			proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `^(CREATE|ALTER|INSERT)`, Kind: loadertest.MsgStatement}, Nth: n, Do: loadertest.Cut})
			registry.Create(t.Context(), poolOf(t, proxy.URL()), info)
			var all []chan error
			for range 4 {
				done, pool := make(chan error, 1), poolOf(t, url)
				all = append(all, done)
				go func() {
					_, err := registry.Create(t.Context(), pool, info)
					done <- err
				}()
			}
			for _, done := range all {
				if err := <-done; err != nil {
					t.Errorf("an upgrade behind one that ended at statement %d: %v", n, err)
				}
			}
			if got, want := catalogue(t, url), catalogue(t, fresh); got != want {
				t.Errorf("behind an upgrade that ended at statement %d the registry is\n%s, want\n%s", n, got, want)
			}
			for _, pool := range pools {
				pool.Close()
			}
			loadertest.Exec(t, url, "DROP SCHEMA loader CASCADE")
			makeEarlier(t, url, earlier[0].files)
		}
	})
}

// TestNewerRegistry refuses one of a newer version, and changes nothing in it.
func TestNewerRegistry(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		open(t, url)
		loadertest.Exec(t, url, fmt.Sprintf("INSERT INTO loader.version (number) VALUES (%d)", registry.Version+1))
		_, pool, err := openRead(t, url)
		var schema *registry.SchemaError
		if !errors.As(err, &schema) || !strings.Contains(err.Error(), fmt.Sprintf("version %d, and this loader knows", registry.Version+1)) {
			t.Errorf("opening a newer registry gives %v, want a SchemaError that names its version", err)
		}
		if _, err := registry.Create(t.Context(), pool, loadertest.Open(t, url).Info); !errors.As(err, &schema) {
			t.Errorf("creating over a newer registry gives %v, want a SchemaError", err)
		}
	})
}

// TestSchemaOfOthers finds a schema loader that is another program's: it is named, and
// nothing is made in it. An empty one is made use of.
func TestSchemaOfOthers(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for _, objects := range [][]string{
			{"CREATE TABLE loader.jobs (id INT PRIMARY KEY)"},
			{"CREATE TABLE loader.loads (id INT PRIMARY KEY, started TIMESTAMPTZ)"},
			{"CREATE TABLE loader.loads (id TEXT PRIMARY KEY, state TEXT, done TEXT)", "CREATE TABLE loader.claims (id INT PRIMARY KEY)"},
			{"CREATE VIEW loader.status AS SELECT 1 AS one"},
			{"CREATE SEQUENCE loader.numbers"},
			{"CREATE TYPE loader.mood AS ENUM ('calm')"},
			{"CREATE TABLE loader.version (number INT PRIMARY KEY)"},
		} {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, append([]string{"CREATE SCHEMA loader"}, objects...)...)
			before := objectsOf(t, url)
			_, pool, err := openRead(t, url)
			var schema *registry.SchemaError
			if !errors.As(err, &schema) {
				t.Errorf("%v: open gives %v, want a SchemaError", objects, err)
			}
			_, err = registry.Create(t.Context(), pool, loadertest.Open(t, url).Info)
			if !errors.As(err, &schema) || !strings.Contains(err.Error(), "schema loader") || !strings.Contains(err.Error(), "--no-registry") {
				t.Errorf("%v: create gives %v, want a SchemaError that names the schema and --no-registry", objects, err)
			}
			if got := objectsOf(t, url); !slices.Equal(got, before) {
				t.Errorf("%v: the schema holds %v, want %v", objects, got, before)
			}
		}
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE SCHEMA loader")
		if _, _, err := openRead(t, url); !errors.Is(err, registry.ErrNoRegistry) {
			t.Errorf("an empty schema gives %v, want ErrNoRegistry", err)
		}
		open(t, url)
		// The history of transfers may have come first.
		url = s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE SCHEMA loader", "CREATE TABLE loader.transfer_runs (id TEXT, target TEXT, table_id BIGINT, seed TEXT, transfers BIGINT)")
		if _, _, err := openRead(t, url); !errors.Is(err, registry.ErrNoRegistry) {
			t.Errorf("a schema with the history of transfers gives %v, want ErrNoRegistry", err)
		}
		open(t, url)
	})
}

// objectsOf returns the names of what is in schema loader.
func objectsOf(t *testing.T, url string) []string {
	t.Helper()
	return strings.Split(loadertest.Value[string](t, url, `SELECT COALESCE(string_agg(c.relname::TEXT, ',' ORDER BY c.relname::TEXT), '') FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'loader'`), ",")
}
