//go:build unix

package load_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// A duo is a primary and its standby.
type duo struct {
	primary *localdb.DB
	standby string // its URL
	url     string // both hosts: the one that takes writes
}

// newDuo starts both, with a database for the test.
func newDuo(t *testing.T) duo {
	t.Helper()
	s, db := loadertest.OwnServer(t, server.PostgreSQL)
	// Not NewDatabase: the primary is gone when that would be dropped.
	loadertest.Exec(t, s.URL(), "CREATE DATABASE duo")
	url := strings.Replace(s.URL(), nameOf(s.URL()), "/duo?", 1)
	at := func(url string) string { return strings.SplitN(strings.SplitN(url, "@", 2)[1], "/", 2)[0] }
	standby := strings.Replace(url, at(url), at(loadertest.Standby(t, db)), 1)
	loadertest.Eventually(t, "the database at the standby", func() bool {
		return loadertest.Value[bool](t, strings.Replace(standby, nameOf(url), "/postgres?", 1), "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", strings.Trim(nameOf(url), "/?"))
	})
	return duo{db, standby, strings.Replace(url, at(url), at(url)+","+at(standby), 1) + "&target_session_attrs=read-write"}
}

// nameOf returns the part of a URL with the database's name: "/name?".
func nameOf(url string) string {
	rest := strings.SplitN(url, "@", 2)[1]
	return rest[strings.Index(rest, "/") : strings.Index(rest, "?")+1]
}

// disconnect stops the stream to the standby: what the primary confirms from now on is missing
// there.
func (d duo) disconnect(t *testing.T) {
	t.Helper()
	loadertest.Exec(t, d.standby, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	loadertest.Eventually(t, "the end of the stream", func() bool {
		return loadertest.Value[int](t, d.standby, "SELECT count(*) FROM pg_stat_wal_receiver") == 0
	})
}

// failOver kills the primary and promotes the standby.
func (d duo) failOver(t *testing.T) {
	t.Helper()
	if err := d.primary.Crash(); err != nil {
		t.Error(err)
	}
	if !loadertest.Value[bool](t, d.standby, "SELECT pg_promote()") {
		t.Error("the standby was not promoted")
	}
}

// once calls f, when so many rows are confirmed.
func once(rows int64, f func()) func(loader.Event) {
	var called sync.Once
	return func(e loader.Event) {
		if rows -= e.Span.Rows; rows <= 0 {
			called.Do(f)
		}
	}
}

// TestFailOver promotes the synchronous standby of a server that dies under a load: each row is
// there once.
func TestFailOver(t *testing.T) {
	loadertest.Slow(t)
	list := subjects(loadertest.PostgreSQLServer(t))
	if !loadertest.Chaos {
		list = few(list)
	}
	for _, sub := range list {
		t.Run(sub.String(), func(t *testing.T) {
			d := newDuo(t)
			const n = 20_000
			sub.makeTable(t, d.url)
			loadertest.Exec(t, d.url, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
			loadertest.Eventually(t, "the synchronous standby", func() bool {
				return loadertest.Value[int](t, d.url, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
			})
			sub.Observe = once(n/2, func() { d.failOver(t) })
			x := sub.startDirect(t, d.url, n)
			res := x.mustEnd(t)
			if res.Gone > 0 && sub.CommitMode == commit.Transaction { // else the rows are looked up
				t.Errorf("%d rows are counted as lost", res.Gone)
			}
			sub.exact(t, d.url, x.Load, n)
		})
	}
}

// TestFailOverThatLosesRows promotes a standby that lacks what its primary has confirmed: it was
// asynchronous, and its stream was cut. The run finds that out and loads these rows again, or it
// ends without confirming anything.
func TestFailOverThatLosesRows(t *testing.T) {
	loadertest.Slow(t)
	const n = 20_000
	list := subjects(loadertest.PostgreSQLServer(t))
	if !loadertest.Chaos {
		list = few(list)
	}
	for _, sub := range list {
		for _, c := range []struct {
			name     string
			cut      int64 // after so many rows; 0 is before the load
			registry bool
		}{{"late", n / 8, true}, {"before the load", 0, true}, {"no registry", n / 8, false}} {
			if !loadertest.Chaos && c.name == "late" && sub.kind != "points" || !c.registry && sub.kind != "points" {
				continue
			}
			t.Run(sub.String()+"/"+c.name, func(t *testing.T) {
				d := newDuo(t)
				sub := sub
				sub.makeTable(t, d.url)
				newLoad(t, d.url, load.Request{Table: "first", Dataset: points(1, 1)}).Close() // makes the registry
				primary := strings.Replace(d.url, "&target_session_attrs=read-write", "", 1)
				loadertest.Eventually(t, "the standby's state", func() bool {
					return loadertest.Value[bool](t, primary, "SELECT coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) FROM pg_stat_replication")
				})
				cut, over := once(c.cut, func() { d.disconnect(t) }), once(n/2, func() { d.failOver(t) })
				if c.cut == 0 {
					d.disconnect(t)
					cut = func(loader.Event) {}
				}
				var notes []string
				sub.Chunk, sub.Workers, sub.RetryFor = 100, 1, time.Minute
				sub.Observe = func(e loader.Event) {
					cut(e)
					over(e)
					if e.Note != "" {
						notes = append(notes, e.Note)
					}
				}
				if !c.registry {
					l := newLoad(t, d.url, load.Request{Dataset: points(n, 7), NoRegistry: true, Settings: sub.Settings})
					res, err := l.Run(context.Background())
					t.Logf("%d rows, %v, %q", res.Rows, err, notes)
					if !errors.Is(err, loader.ErrUnconfirmed) {
						t.Errorf("%d rows are confirmed, %v", res.Rows, err)
					}
					return
				}
				x := sub.startDirect(t, d.url, n)
				res, err := x.wait()
				t.Logf("%d rows, gone %d, %v, %q", res.Rows, res.Gone, err, notes)
				if err == nil && res.Gone == 0 {
					t.Error("nobody noticed that rows are gone")
				}
				if err != nil && (!errors.Is(err, loader.ErrUnconfirmed) || !strings.Contains(err.Error(), "a standby of the server was promoted")) {
					t.Errorf("it is not said why: %v", err)
				}
				if err != nil { // a lease that the standby lacks is no longer the run's
					x.Close()
					again, err := load.Resume(context.Background(), loadertest.Open(t, d.url), x.ID, load.Settings{Input: files.NewInput(nil)})
					if errors.Is(err, registry.ErrNoLoad) {
						return // it lacks the record too
					}
					if err != nil {
						t.Fatal(err)
					}
					defer again.Close()
					if _, err := again.Run(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				sub.exact(t, d.url, x.Load, n)
			})
		}
	}
}
