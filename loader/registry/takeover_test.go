package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// stale has the claims of all runs look as if nobody had worked on them for long.
func stale(t *testing.T, url string) {
	t.Helper()
	loadertest.Exec(t, url, "UPDATE loader.claims SET beat = now() - INTERVAL '1 hour'")
}

// alive reports whether a session is still there.
func alive(session *pgx.Conn) bool {
	_, err := session.Exec(context.Background(), "SELECT 1")
	return err == nil
}

// admit asks in a session whether its run may work.
func admit(t *testing.T, reg *registry.Registry, session *pgx.Conn, load, run string) error {
	t.Helper()
	results, err := session.PgConn().Exec(t.Context(), reg.AskAdmission(load, run)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return registry.Admitted(load, run, results[0].Rows)
}

// through returns the registry of a database through a proxy, which does not try for long.
func through(t *testing.T, proxy *loadertest.Proxy) *registry.Registry {
	t.Helper()
	reg, _ := open(t, proxy.URL())
	reg.RetryFor, reg.FenceTimeout = time.Millisecond, 10*time.Second
	return reg
}

// statements matches every statement of the registry that may write, or end a session.
var statements = loadertest.Match{SQL: `^(begin|commit|savepoint|release|insert|update|delete|select pg_terminate|cancel session|select (pid|session_id))`, Kind: loadertest.MsgStatement}

// TestTakeoverThatStopped ends a takeover, a cancellation and a forgetting at each of their
// statements, before it and behind it. Whoever comes next ends the session of the run that
// held the claims before any of its positions is given to another, and nothing that the run
// wrote is lost.
func TestTakeoverThatStopped(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Long(t)
		}
		url := s.NewDatabase(t)
		direct, _ := open(t, url)
		for _, what := range []string{"takeover", "cancel", "forget"} {
			for _, do := range []loadertest.Action{loadertest.Cut, loadertest.SwallowReply} {
				if do != loadertest.Cut && !loadertest.Chaos {
					continue
				}
				for n := 1; ; n++ {
					id := fmt.Sprintf("%c%c%06d", what[0], "cs"[min(int(do), 1)], n)
					if err := direct.Add(t.Context(), registry.Load{ID: id, Kind: "points", Target: "public.points", Positions: 100, Spec: []byte("{}")}); err != nil {
						t.Fatal(err)
					}
					session := sessionOf(t, url, id, "zombie00")
					zombie := direct.Queue(id, "zombie00")
					zombie.Ledger = true
					lease(t, zombie, 100)
					// What the zombie has under way when it is taken over.
					_, err := session.Exec(t.Context(), "INSERT INTO loader.ledger (load, lo, hi) VALUES ($1, 10, 20)", id)
					if err != nil {
						t.Fatal(err)
					}
					stale(t, url)
					fault := &loadertest.Fault{When: statements, Nth: n, Times: -1, Do: do}
					proxy := loadertest.NewProxy(t, url)
					reg := through(t, proxy)
					proxy.Add(fault)
					var c loader.Lease
					switch what {
					case "takeover":
						q := reg.Queue(id, "second00")
						q.Ledger = true
						c, err = q.Claim(t.Context(), 100)
					case "cancel":
						err = reg.Cancel(t.Context(), id)
					case "forget":
						err = reg.Forget(t.Context(), id)
					}
					fired := fault.Fired()
					proxy.Close()
					if err == nil && c.Len() > 0 && alive(session) {
						t.Fatalf("%s, %s %d: positions are claimed while a session of their run is there", what, do, n)
					}
					if err != nil {
						// Somebody comes again.
						switch what {
						case "takeover":
							third := direct.Queue(id, "third000")
							third.Ledger = true
							c, err := third.Claim(t.Context(), 10)
							if err != nil {
								t.Fatalf("takeover, %s %d: the next one: %v", do, n, err)
							}
							if alive(session) {
								t.Fatalf("takeover, %s %d: positions are claimed while a session of their first run is there", do, n)
							}
							if in, err := direct.In(t.Context(), id); err != nil || in.String() != "10-20" || c.Range.First < 20 && c.Range.End > 10 {
								t.Errorf("takeover, %s %d: %s is in, and %v claimed, %v; want 10-20, and others", do, n, in.String(), c.Range, err)
							}
						case "cancel":
							err = direct.Cancel(t.Context(), id)
						case "forget":
							if err = direct.Forget(t.Context(), id); errors.Is(err, registry.ErrNoLoad) {
								err = nil // it was done
							}
						}
						if err != nil && what != "takeover" {
							t.Fatalf("%s, %s %d: the next one: %v", what, do, n, err)
						}
						if alive(session) {
							t.Errorf("%s, %s %d: the session of the run is still there", what, do, n)
						}
					}
					if what == "cancel" {
						if l, err := direct.Get(t.Context(), id); err != nil || l.State != registry.Cancelled || l.Done.String() != "10-20" {
							t.Errorf("cancel, %s %d: %s, %s in, %v; want cancelled, 10-20", do, n, l.State, l.Done.String(), err)
						}
					}
					session.Close(context.Background())
					loadertest.Exec(t, url, "DELETE FROM loader.claims")
					if !fired {
						if n < 8 {
							t.Errorf("%s has %d statements, want 8 at least", what, n)
						}
						break
					}
				}
			}
		}
	})
}

// TestRunThatWasMarked has a run go on whose claims were marked by a takeover that stopped
// there: it writes nothing, takes nothing, and has no new session.
func TestRunThatWasMarked(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "marked00", 100)
		q := reg.Queue("marked00", "zombie00")
		q.Ledger = true
		c := lease(t, q, 50)
		conn := sessionOf(t, url, "marked00", "zombie00")
		if err := admit(t, reg, conn, "marked00", "zombie00"); err != nil {
			t.Errorf("a new session of a run that works: %v", err)
		}
		stale(t, url)
		// The takeover stops at the list of sessions.
		list := &loadertest.Fault{When: loadertest.Match{SQL: `pg_stat_activity|SHOW CLUSTER SESSIONS`, Kind: loadertest.MsgStatement}, Times: -1, Do: loadertest.Cut}
		proxy := loadertest.NewProxy(t, url)
		other := through(t, proxy)
		proxy.Add(list)
		second := other.Queue("marked00", "second00")
		for range 2 { // the free half first
			if _, err := second.Claim(t.Context(), 50); err != nil {
				break
			}
		}
		if !list.Fired() {
			t.Fatal("no takeover was begun")
		}
		proxy.Close()
		c.Done.Add(c.Range)
		lost := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, loader.ErrLost) {
				t.Errorf("%s gives %v, want ErrLost", what, err)
			}
		}
		lost("a checkpoint", q.Checkpoint(t.Context(), []loader.Lease{c}))
		lost("a release", q.Release(t.Context(), c))
		lost("a job", reg.SetJob(t.Context(), "marked00", "zombie00", 7))
		lost("a specification", reg.SetSpec(t.Context(), "marked00", "zombie00", []byte("{}")))
		_, err := reg.Queue("marked00", "zombie00").Claim(t.Context(), 10)
		lost("a claim", err)
		lost("a new session", admit(t, reg, conn, "marked00", "zombie00"))
		if run := loadertest.Value[string](t, url, "SELECT run FROM loader.claims WHERE successor IS NOT NULL"); run != "zombie00" {
			t.Errorf("the claim that was marked is of run %s, want zombie00 until its sessions have ended", run)
		}
		// When its claims are settled it is still known.
		third := reg.Queue("marked00", "third000")
		loadertest.Exec(t, url, "DELETE FROM loader.claims WHERE run = 'second00'")
		lease(t, third, 50)
		lease(t, third, 50)
		lost("a new session behind the takeover", admit(t, reg, sessionOf(t, url, "marked00", "zombie00"), "marked00", "zombie00"))
		loadertest.Exec(t, url, "DELETE FROM loader.claims")
		_, err = reg.Queue("marked00", "zombie00").Claim(t.Context(), 10)
		lost("a claim of what is free", err)
		// Without a ledger, what the dead run held may be in.
		if open := loadertest.Value[string](t, url, "SELECT open FROM loader.loads"); open != "0-50" {
			t.Errorf("%s is open, want 0-50", open)
		}
	})
}

// TestSessionsOfARunThatIsGone has sessions of loads that were cancelled and forgotten.
func TestSessionsOfARunThatIsGone(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		for name, end := range map[string]func(*registry.Registry) error{
			"cancel": func(reg *registry.Registry) error { return reg.Cancel(t.Context(), "gone0000") },
			"forget": func(reg *registry.Registry) error { return reg.Forget(t.Context(), "gone0000") },
		} {
			url, reg := entered(t, s, "gone0000", 100)
			lease(t, reg.Queue("gone0000", "zombie00"), 100)
			if err := end(reg); err != nil {
				t.Fatal(err)
			}
			if err := admit(t, reg, sessionOf(t, url, "gone0000", "zombie00"), "gone0000", "zombie00"); !errors.Is(err, loader.ErrLost) {
				t.Errorf("%s: a new session of its run gives %v, want ErrLost", name, err)
			}
		}
	})
}

// TestFenceThatIsRefused takes over from the run of a user whose sessions one may not end:
// it is refused in words until they have ended by themselves.
func TestFenceThatIsRefused(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		user, as := s.NewUser(t, url)
		right := "pg_signal_backend"
		if s.Cockroach {
			right = "CANCELQUERY"
			loadertest.Exec(t, s.URL(), "ALTER USER "+user+" WITH VIEWACTIVITY")
		}
		loadertest.Exec(t, url, "CREATE SCHEMA loader", "GRANT USAGE ON SCHEMA loader TO "+user)
		reg, _ := open(t, url)
		grantTables(t, url, user)
		if err := reg.Add(t.Context(), registry.Load{ID: "refused0", Kind: "points", Target: "public.points", Positions: 100, Spec: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		session := sessionOf(t, url, "refused0", "zombie00")
		q := reg.Queue("refused0", "zombie00")
		c := lease(t, q, 100)
		other, _, err := openRead(t, as)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Queue("refused0", "second00").Claim(t.Context(), 100); !errors.Is(err, loader.ErrBusy) {
			t.Errorf("a claim beside a run that lives gives %v, want ErrBusy", err)
		}
		if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
			t.Errorf("the run that lives: %v", err)
		}
		stale(t, url)
		other.FenceTimeout = 200 * time.Millisecond
		checkRefused := func(what string, err error) {
			t.Helper()
			var fence *registry.FenceError
			if !errors.As(err, &fence) || !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), right) || fence.Sessions != 1 {
				t.Errorf("%s gives %v, want a FenceError that names %s", what, err, right)
			}
			if !alive(session) {
				t.Error("the session has ended")
			}
			if in := loadertest.Value[string](t, url, "SELECT run FROM loader.claims"); in != "zombie00" {
				t.Errorf("the claim is of run %s, want zombie00", in)
			}
		}
		_, err = other.Queue("refused0", "second00").Claim(t.Context(), 100)
		checkRefused("a takeover", err)
		_, err = other.Queue("refused0", "third000").Claim(t.Context(), 100)
		checkRefused("another takeover", err)
		checkRefused("a cancellation", other.Cancel(t.Context(), "refused0"))
		loadertest.Exec(t, url, "UPDATE loader.loads SET state = 'loading'")
		// It ends by itself.
		other.FenceTimeout = time.Minute
		time.AfterFunc(50*time.Millisecond, func() { session.Close(context.Background()) })
		lease(t, other.Queue("refused0", "fourth00"), 100)
	})
}

// grantTables lets a user use the registry.
func grantTables(t *testing.T, url, user string) {
	t.Helper()
	tables := loadertest.Value[string](t, url, "SELECT string_agg('loader.' || table_name, ', ') FROM information_schema.tables WHERE table_schema = 'loader'")
	loadertest.Exec(t, url, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+tables+" TO "+user)
}

// TestSessionsThatDoNotShow is a user of CockroachDB who sees no sessions of others: a run
// of another is not taken for dead since it shows none.
func TestSessionsThatDoNotShow(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	user, as := s.NewUser(t, url)
	loadertest.Exec(t, url, "CREATE SCHEMA loader", "GRANT USAGE ON SCHEMA loader TO "+user)
	reg, _ := open(t, url)
	grantTables(t, url, user)
	if err := reg.Add(t.Context(), registry.Load{ID: "unseen00", Kind: "points", Target: "public.points", Positions: 100, Spec: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	session := sessionOf(t, url, "unseen00", "living00")
	q := reg.Queue("unseen00", "living00")
	c := lease(t, q, 100)
	other, _, err := openRead(t, as)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Queue("unseen00", "second00").Claim(t.Context(), 100); !errors.Is(err, loader.ErrBusy) {
		t.Errorf("a claim beside a run that lives gives %v, want ErrBusy", err)
	}
	if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
		t.Errorf("the run that lives: %v", err)
	}
	stale(t, url)
	for what, err := range map[string]error{
		"a takeover":     func() error { _, err := other.Queue("unseen00", "second00").Claim(t.Context(), 100); return err }(),
		"a cancellation": other.Cancel(t.Context(), "unseen00"),
	} {
		var fence *registry.FenceError
		if !errors.As(err, &fence) || !strings.Contains(err.Error(), "VIEWACTIVITY") || !strings.Contains(err.Error(), "CANCELQUERY") || !strings.Contains(err.Error(), "user root") {
			t.Errorf("%s gives %v, want a FenceError that names the user, VIEWACTIVITY and CANCELQUERY", what, err)
		}
	}
	if !alive(session) {
		t.Error("the session has ended")
	}
	// Its own runs it sees.
	loadertest.Exec(t, url, "DELETE FROM loader.claims", "UPDATE loader.loads SET state = 'loading'")
	lease(t, other.Queue("unseen00", "own00000"), 100)
	lease(t, other.Queue("unseen00", "own00001"), 100)
}

// TestHeirsOfEarlierVersions finds a claim under a name that an earlier version gave it when
// it took it over, and did not live to end the sessions of the run that had held it: all
// sessions of the load end, but for those of runs that are recorded.
func TestHeirsOfEarlierVersions(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		makeEarlier(t, url, earlier[3].files)
		loadertest.Exec(t, url, "UPDATE loader.claims SET run = 'heir0000', beat = now()", "UPDATE loader.loads SET id = 'heirs000'", "UPDATE loader.claims SET load = 'heirs000'", "UPDATE loader.ledger SET load = 'heirs000'")
		zombie := sessionOf(t, url, "heirs000", "zombie00")
		reg, _ := open(t, url)
		loadertest.Exec(t, url, "INSERT INTO loader.runs (load, run, username) VALUES ('heirs000', 'recorded', 'somebody')")
		recorded, own := sessionOf(t, url, "heirs000", "recorded"), sessionOf(t, url, "heirs000", "newer000")
		q := reg.Queue("heirs000", "newer000")
		q.Ledger = true
		c, err := q.Claim(t.Context(), 100)
		if err != nil || c.First != 60 {
			t.Fatalf("claimed %v, %v; want from 60", c.Range, err)
		}
		if alive(zombie) {
			t.Error("the session of the run before is still there")
		}
		if !alive(recorded) || !alive(own) {
			t.Error("the session of a run that is recorded, or of the own one, has ended")
		}
		if in, err := reg.In(t.Context(), "heirs000"); err != nil || in.String() != "0-60" {
			t.Errorf("%s is in, %v; want 0-60", in.String(), err)
		}
	})
}

// TestOpenRanges follows what a dead run held by the statement way: it is open until it is
// in.
func TestOpenRanges(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "open0000", 100)
		q := reg.Queue("open0000", "older000")
		q.MaxLease = 60
		c := lease(t, q, 60)
		c.Done.Add(chunker.Range{First: 10, End: 20})
		if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
			t.Fatal(err)
		}
		newer := reg.Queue("open0000", "newer000")
		first := lease(t, newer, 40) // what is free
		if first.Open.Len() != 0 {
			t.Errorf("%s is open of what nobody had, want nothing", first.Open.String())
		}
		got := lease(t, newer, 10)
		if got.First != 0 || got.Open.String() != "0-10" {
			t.Errorf("claimed %v, open %s; want 0 to 10, all open", got.Range, got.Open.String())
		}
		got.Done.Add(got.Range)
		if err := newer.Release(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		if open := loadertest.Value[string](t, url, "SELECT open FROM loader.loads"); open != "20-60" {
			t.Errorf("%s is open, want 20-60", open)
		}
	})
}
