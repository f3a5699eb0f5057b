package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// entered returns the registry of a new database, with one load of n positions.
func entered(t *testing.T, s loadertest.Server, id string, n int64) (url string, reg *registry.Registry) {
	t.Helper()
	url = s.NewDatabase(t)
	reg, _ = open(t, url)
	if err := reg.Add(t.Context(), registry.Load{ID: id, Kind: "points", Target: "public.points", Positions: n, Spec: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	return url, reg
}

// open returns the registry of a database, made where it is missing, and its sessions.
func open(t *testing.T, url string) (*registry.Registry, *pgxpool.Pool) {
	t.Helper()
	srv := loadertest.Open(t, url)
	pool, err := srv.Pool(t.Context(), server.Sessions{Name: "test", Max: 2, Ready: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	reg, err := registry.Create(t.Context(), pool, srv.Info)
	if err != nil {
		t.Fatal(err)
	}
	return reg, pool
}

// sessionOf opens a session of a run.
func sessionOf(t *testing.T, url, load, run string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = registry.SessionName(load, run)
	session, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close(context.Background()) })
	return session
}

// claim takes all positions of a load that is as large as a chunk.
func lease(t *testing.T, q *registry.Queue, n int64) loader.Lease {
	t.Helper()
	c, err := q.Claim(t.Context(), n)
	if err != nil || c.Len() != n {
		t.Fatalf("claimed %v, %v; want %d positions", c.Range, err, n)
	}
	return c
}

// TestLateCheckpoint has a run that was taken over tell what it had committed: of claims
// that are another's by now nothing is believed.
func TestLateCheckpoint(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		_, reg := entered(t, s, "late0000", 100)
		older, newer := reg.Queue("late0000", "older000"), reg.Queue("late0000", "newer000")
		was := lease(t, older, 100)
		is := lease(t, newer, 100) // the older has no session
		was.Done.Add(was.Range)
		if err := older.Checkpoint(t.Context(), []loader.Lease{was}); !errors.Is(err, loader.ErrLost) {
			t.Errorf("a late checkpoint gives %v, want ErrLost", err)
		}
		if err := older.Release(t.Context(), was); !errors.Is(err, loader.ErrLost) {
			t.Errorf("a late release gives %v, want ErrLost", err)
		}
		if in, err := reg.In(t.Context(), "late0000"); err != nil || in.Len() != 0 {
			t.Errorf("%d positions are taken for loaded, %v; want none", in.Len(), err)
		}
		if err := newer.Release(t.Context(), is); err != nil {
			t.Error(err)
		}
	})
}

// TestOlderRunIsFenced takes over from a run that shows no life, but whose session is
// there and may still write: it is ended first.
func TestOlderRunIsFenced(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "stale000", 100)
		session := sessionOf(t, url, "stale000", "older000")
		lease(t, reg.Queue("stale000", "older000"), 100)
		loadertest.Exec(t, url, "UPDATE loader.claims SET beat = now() - INTERVAL '1 hour'")
		newer := reg.Queue("stale000", "newer000")
		c := lease(t, newer, 100)
		if _, err := session.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Error("the older run's session can still write")
		}
		if err := newer.Release(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}
