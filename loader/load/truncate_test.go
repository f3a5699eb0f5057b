package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// TestTruncate empties tables before a load. The record says whether it is done: a run that goes
// on with the load does it then and only then, and never behind the first row.
func TestTruncate(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		ctx := context.Background()
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)", "CREATE INDEX by_v ON t (v)")
		locks := s.Cockroach && loadertest.Value[int](t, url, "SELECT count(*) FROM pg_settings WHERE name = 'create_table_with_schema_locked'") > 0
		path := write(t, "t.csv", "id,v\n1,new\n2,new\n3,new\n")
		request := func() load.Request {
			req := fileRequest("t", path)
			req.Truncate, req.Settings.Chunk, req.Workers = true, 2, 1
			return req
		}
		fill := func() {
			t.Helper()
			loadertest.Exec(t, url, "DELETE FROM t", "INSERT INTO t VALUES (1, 'old'), (7, 'old'), (8, 'old')")
		}
		check := func(when, want string) {
			t.Helper()
			if got := strings.Join(table(t, url, "SELECT id, v FROM t"), "; "); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		const old, fresh = `"1"|"old"|; "7"|"old"|; "8"|"old"|`, `"1"|"new"|; "2"|"new"|; "3"|"new"|`
		state := func(id string) string {
			t.Helper()
			var spec struct{ Truncate string }
			if err := json.Unmarshal([]byte(loadertest.Value[string](t, url, "SELECT spec FROM loader.loads WHERE id = $1", id)), &spec); err != nil {
				t.Fatal(err)
			}
			return spec.Truncate
		}
		resume := func(id string) error { return resumeRowByRow(t, url, id) }
		if locks {
			fill()
			if _, err := newLoad(t, url, request()).Run(ctx); err == nil || !strings.Contains(err.Error(), "SET (schema_locked = false) lets --truncate empty it") {
				t.Errorf("a locked table: %v", err)
			}
			check("locked", old)
			unlock(t, url)
		}
		for _, mode := range []commit.Mode{"", commit.Statement} {
			fill()
			req := request()
			req.CommitMode = mode
			l := newLoad(t, url, req)
			if !slices.Contains(l.Notes, "t is emptied before the first row (--truncate)") && !slices.Contains(l.Notes, "public.t is emptied before the first row (--truncate)") {
				t.Errorf("got notes %q", l.Notes)
			}
			check("before the run", old)
			if _, err := l.Run(ctx); err != nil {
				t.Fatal(err)
			}
			check("behind a load", fresh)
			if r, err := l.Verify(ctx, nil); err != nil || !r.OK() {
				t.Errorf("verify: %+v, %v", r, err)
			}
			// Not a second time.
			loadertest.Exec(t, url, "INSERT INTO t VALUES (9, 'other')")
			if err := resume(l.ID); err != nil {
				t.Error(err)
			}
			check("behind a resume", fresh+`; "9"|"other"|`)
		}
		// A run that has only been recorded: the next one does it.
		fill()
		l := newLoad(t, url, request())
		l.Close()
		check("recorded", old)
		if got := state(l.ID); got != "asked" {
			t.Errorf("the record says %q", got)
		}
		if err := resume(l.ID); err != nil {
			t.Error(err)
		}
		check("resumed", fresh)
		if got := state(l.ID); got != "done" {
			t.Errorf("the record says %q", got)
		}
		// A record with rows that asks for it, as only another version can have left it.
		fill()
		l = newLoad(t, url, request())
		l.Close()
		loadertest.Exec(t, url, "UPDATE loader.loads SET done = '0-1' WHERE id = '"+l.ID+"'")
		if err := resume(l.ID); !errors.Is(err, load.ErrTable) {
			t.Errorf("rows on record: %v, want it refused", err)
		}
		check("rows on record", old)
		// Another table of that name.
		fill()
		l = newLoad(t, url, request())
		loadertest.Exec(t, url, "ALTER TABLE t RENAME TO u", "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)", "INSERT INTO t VALUES (1, 'old'), (7, 'old'), (8, 'old')")
		if locks {
			unlock(t, url)
		}
		if _, err := l.Run(ctx); !errors.Is(err, load.ErrTable) {
			t.Errorf("another table: %v, want it refused", err)
		}
		check("another table", old)
		// What refuses TRUNCATE.
		loadertest.Exec(t, url, "CREATE TABLE child (t INT8 REFERENCES t)")
		l = newLoad(t, url, request())
		if _, err := l.Run(ctx); err == nil || !strings.Contains(err.Error(), "empty t: ") && !strings.Contains(err.Error(), "empty public.t: ") {
			t.Errorf("a referenced table: %v", err)
		}
		check("a referenced table", old)
		loadertest.Exec(t, url, "DROP TABLE child")
		// TRUNCATE and the record are one transaction.
		l = newLoad(t, url, request())
		srv := loadertest.Open(t, url)
		pool, err := srv.Pool(ctx, server.Sessions{Name: "loadertest"})
		if err != nil {
			t.Fatal(err)
		}
		defer server.ClosePool(pool)
		reg, err := registry.Open(ctx, pool, srv.Info)
		if err != nil {
			t.Fatal(err)
		}
		was := json.RawMessage(loadertest.Value[string](t, url, "SELECT spec FROM loader.loads WHERE id = $1", l.ID))
		for _, fail := range []string{"change", "spec"} {
			err = reg.BeforeRows(ctx, l.ID, append(was, ' '), func(ctx context.Context, tx pgx.Tx) (json.RawMessage, error) {
				_, err := tx.Exec(ctx, "TRUNCATE TABLE t")
				if err == nil && fail == "change" {
					err = failure.New(failure.Refused, "stop")
				}
				return was, err
			})
			if err == nil || fail == "spec" && !errors.Is(err, registry.ErrChanged) {
				t.Errorf("%s: %v", fail, err)
			}
			check("one transaction, "+fail, old)
		}
	})
}

// unlock lets CockroachDB change the definition of t in a transaction.
func unlock(t *testing.T, url string) {
	t.Helper()
	loadertest.Exec(t, url, "ALTER TABLE t SET (schema_locked = false)")
}

// TestTruncateAndCut cuts the connection of a load that empties its table, at one message after
// the other: the run empties the table once, in front of its first row.
func TestTruncateAndCut(t *testing.T) {
	loadertest.Slow(t)
	step := 5
	if loadertest.Chaos {
		step = 1
	}
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
		path := write(t, "t.csv", "id,v\n1,new\n2,new\n3,new\n4,new\n")
		if s.Cockroach && loadertest.Value[int](t, url, "SELECT count(*) FROM pg_settings WHERE name = 'create_table_with_schema_locked'") > 0 {
			unlock(t, url)
		}
		for i := 0; i == 0 || !t.Failed(); i++ {
			loadertest.Exec(t, url, "DELETE FROM t", "INSERT INTO t VALUES (1, 'old'), (7, 'old')")
			proxy := loadertest.NewProxy(t, url)
			req := fileRequest("t", path)
			req.Truncate, req.Chunk, req.Workers, req.RetryFor = true, 2, 1, time.Minute
			l := newLoad(t, proxy.URL(), req)
			fault := &loadertest.Fault{When: loadertest.Match{From: loadertest.Side(i % 2)}, Nth: 1 + i/2*step, Do: cutActions[i/2%len(cutActions)], Reset: i%3 == 0}
			proxy.Add(fault)
			if _, err := l.Run(context.Background()); err != nil {
				t.Errorf("%v at message %d: %v", fault.Do, fault.Nth, err)
			}
			l.Close()
			proxy.Close()
			if got, want := strings.Join(table(t, url, "SELECT id, v FROM t"), "; "), `"1"|"new"|; "2"|"new"|; "3"|"new"|; "4"|"new"|`; got != want {
				t.Errorf("%v at message %d: got %s, want %s", fault.Do, fault.Nth, got, want)
			}
			if !fault.Fired() {
				t.Logf("%d loads were cut", i)
				break
			}
		}
	})
}
