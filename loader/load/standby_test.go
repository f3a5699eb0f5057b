package load_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// standby has a server of PostgreSQL wait for a standby of that name; none is "".
func standby(t *testing.T, s loadertest.Server, name string) {
	t.Helper()
	url := with(t, s.URL(), "synchronous_commit", "local")
	loadertest.Exec(t, url, "ALTER SYSTEM SET synchronous_standby_names = '"+name+"'", "SELECT pg_reload_conf()")
	loadertest.Eventually(t, "the setting", func() bool {
		return loadertest.Value[string](t, url, "SHOW synchronous_standby_names") == name
	})
}

// impatient cancels every wait for a standby, as an administrator would, until the end of
// the test.
func impatient(t *testing.T, s loadertest.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, with(t, s.URL(), "application_name", "loadertest"))
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	over.Go(func() {
		defer conn.Close(context.Background())
		for ctx.Err() == nil {
			conn.Exec(ctx, "SELECT pg_cancel_backend(pid), pg_sleep(0.005) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		}
	})
	return sync.OnceFunc(func() { cancel(); over.Wait() })
}

// TestStandbyThatIsNotWaitedFor loads while the server's standby is away, and the waits for
// it are cut: by an administrator, or by the loader's own deadline. Nothing is confirmed by
// that, until a later commit has waited.
func TestStandbyThatIsNotWaitedFor(t *testing.T) {
	loadertest.Slow(t)
	s, _ := loadertest.OwnServer(t, server.PostgreSQL)
	url := with(t, s.URL(), "application_name", "loadertest", "synchronous_commit", "local")
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY)")
	newLoad(t, s.URL(), fileRequest("t", write(t, "first.csv", "id\n-1\n"))).Close() // makes the registry
	path := write(t, "t.csv", "id\n1\n2\n3\n4\n")
	for _, c := range []struct {
		name     string
		way      commit.Mode
		registry bool
		deadline time.Duration
	}{
		{"transaction/cancelled", commit.Transaction, true, time.Minute},
		{"statement/cancelled", commit.Statement, true, time.Minute},
		{"transaction/cancelled/no registry", commit.Transaction, false, time.Minute},
		{"statement/cancelled/no registry", commit.Statement, false, time.Minute},
		{"statement/deadline/no registry", commit.Statement, false, 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			loadertest.Exec(t, url, "TRUNCATE t")
			cancelled := c.deadline == time.Minute
			var mu sync.Mutex
			var notes []string
			set := load.Settings{Chunk: 2, Workers: 1, CommitMode: c.way, ChunkTimeout: c.deadline, RetryFor: time.Second, Input: files.NewInput(nil)}
			set.Note = func(note string) {
				mu.Lock()
				defer mu.Unlock()
				notes = append(notes, note)
			}
			req := fileRequest("t", path)
			req.Settings, req.NoRegistry = set, !c.registry
			l := newLoad(t, s.URL(), req)
			standby(t, s, "nobody")
			defer standby(t, s, "")
			if cancelled {
				defer impatient(t, s)()
			}
			res, err := l.Run(context.Background())
			if !errors.Is(err, loader.ErrUnconfirmed) || !errors.Is(err, server.ErrUnwaited) {
				t.Fatalf("%d rows, %v; want what has no standby unconfirmed", res.Rows, err)
			}
			if cancelled && !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, "did not wait for its standby") }) {
				t.Errorf("got notes %q", notes)
			}
			if n := loadertest.Value[int](t, url, "SELECT count(*) FROM t"); n != 4 {
				t.Errorf("%d rows are in", n)
			}
			if !c.registry {
				return
			}
			// A run that has nothing left to do does not confirm it either.
			resume := func() error {
				t.Helper()
				again, err := load.Resume(context.Background(), loadertest.Open(t, s.URL()), l.ID, set)
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				_, err = again.Run(context.Background())
				return err
			}
			if err := resume(); !errors.Is(err, loader.ErrUnconfirmed) {
				t.Errorf("resume without the standby: %v, want ErrUnconfirmed", err)
			}
			standby(t, s, "")
			if err := resume(); err != nil {
				t.Errorf("resume: %v", err)
			}
		})
	}
}

// TestStandbyThatComesBack has the standby away for the first commits alone: one after them
// confirms them.
func TestStandbyThatComesBack(t *testing.T) {
	s, _ := loadertest.OwnServer(t, server.PostgreSQL)
	url := with(t, s.URL(), "application_name", "loadertest", "synchronous_commit", "local")
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY)")
	for _, registry := range []bool{true, false} {
		req := fileRequest("t", write(t, "t.csv", "id\n1\n2\n3\n4\n5\n6\n"))
		warned := make(chan struct{}, 1)
		req.Settings = load.Settings{Chunk: 1, Workers: 1}
		req.Note = func(string) { warned <- struct{}{} }
		req.NoRegistry = !registry
		l := newLoad(t, s.URL(), req)
		standby(t, s, "nobody")
		stop := impatient(t, s)
		defer stop()
		var back sync.WaitGroup
		back.Go(func() {
			<-warned
			standby(t, s, "")
			stop()
		})
		res, err := l.Run(context.Background())
		if err != nil || res.Rows != 6 {
			t.Errorf("registry %v: %d rows, %v", registry, res.Rows, err)
		}
		back.Wait()
		loadertest.Exec(t, url, "TRUNCATE t")
	}
}

// TestWarningsOfTheUsersOwn holds that a trigger that warns, with the same SQLSTATE, is none
// of the server.
func TestWarningsOfTheUsersOwn(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := s.NewDatabase(t)
	loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY)",
		"CREATE FUNCTION warn() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'mind the gap'; RETURN NULL; END $$",
		"CREATE CONSTRAINT TRIGGER w AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn()")
	req := fileRequest("t", write(t, "t.csv", "id\n1\n2\n"))
	req.Note = func(note string) { t.Errorf("got the note %q", note) }
	if res, err := newLoad(t, url, req).Run(context.Background()); err != nil || res.Rows != 2 {
		t.Errorf("%d rows, %v", res.Rows, err)
	}
}

// TestSynchronousCommitIsRaised loads where the database has it lower, and where a trigger
// tells what the sessions have.
func TestSynchronousCommitIsRaised(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	for _, c := range []struct{ has, want string }{{"off", "on"}, {"local", "on"}, {"remote_write", "on"}, {"on", "on"}, {"remote_apply", "remote_apply"}} {
		t.Run(c.has, func(t *testing.T) {
			url := s.NewDatabase(t)
			loadertest.Exec(t, url, "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = "+c.has+"'; END $$",
				"CREATE TABLE t (id INT8 PRIMARY KEY, had TEXT)")
			req := fileRequest("t", write(t, "t.csv", "id\n1\n2\n"))
			filesOf(req).Set = []commit.Assignment{{Column: "had", Expr: "current_setting('synchronous_commit')"}}
			l := newLoad(t, url, req)
			if _, err := l.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := loadertest.Value[string](t, url, "SELECT min(had) || max(had) FROM t"); got != c.want+c.want {
				t.Errorf("the sessions had %s, want %s", got, c.want)
			}
			told := strings.Contains(strings.Join(l.Notes, "\n"), "synchronous_commit is "+c.has)
			if told != (c.has != c.want) {
				t.Errorf("got notes %q", l.Notes)
			}
		})
	}
}
