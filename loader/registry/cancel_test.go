package registry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// inWork enters a load of 100 positions that a run works on: 40 are in by its checkpoint,
// 20 by the ledger. It returns what tells whether the run's session is still there.
func inWork(t *testing.T, url, id string) (alive func() bool) {
	t.Helper()
	reg, _ := open(t, url)
	if err := reg.Add(t.Context(), registry.Load{ID: id, Kind: "points", Target: "public.points", Positions: 100, Spec: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	session := sessionOf(t, url, id, "running0")
	q := reg.Queue(id, "running0")
	c := lease(t, q, 100)
	c.Done.Add(chunker.Range{End: 40})
	if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url,
		fmt.Sprintf("INSERT INTO loader.ledger (load, lo, hi) VALUES ('%s', 40, 60)", id),
		fmt.Sprintf("INSERT INTO loader.moved (load, row_number, id) VALUES ('%s', 41, 7)", id),
		fmt.Sprintf("INSERT INTO loader.rejects (load, position, file, line, byte, column_name, code, reason, record) VALUES ('%s', 42, '', 1, 0, '', '', '', '')", id))
	return func() bool {
		_, err := session.Exec(context.Background(), "SELECT 1")
		return err == nil
	}
}

// checkCancelled fails the test unless the load is cancelled, and what was in is.
func checkCancelled(t *testing.T, reg *registry.Registry, id string) {
	t.Helper()
	if l, err := reg.Get(t.Context(), id); err != nil || l.State != registry.Cancelled || l.Done.Len() != 60 {
		t.Errorf("the load is %s, %d positions are in, %v; want cancelled, and 60", l.State, l.Done.Len(), err)
	}
	if _, err := reg.Queue(id, "another0").Claim(t.Context(), 10); !errors.Is(err, registry.ErrCancelled) {
		t.Errorf("a claim of a cancelled load gives %v, want ErrCancelled", err)
	}
}

// checkForgotten fails the test if any table of the registry has something of a load.
func checkForgotten(t *testing.T, url, id string) {
	t.Helper()
	for _, table := range []string{"loads WHERE id", "claims WHERE load", "ledger WHERE load", "moved WHERE load", "indexes WHERE load", "rejects WHERE load"} {
		if n := loadertest.Value[int64](t, url, fmt.Sprintf("SELECT count(*) FROM loader.%s = '%s'", table, id)); n != 0 {
			t.Errorf("%d rows of loader.%s are those of a load that was forgotten", n, table)
		}
	}
}

// TestEndsAreRepeated cancels a load twice and forgets it then: what an earlier command
// did, or began, is no reason for the next to fail.
func TestEndsAreRepeated(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		alive := inWork(t, url, "twice000")
		reg, _ := open(t, url)
		for i := range 2 {
			if err := reg.Cancel(t.Context(), "twice000"); err != nil {
				t.Errorf("cancel, time %d: %v", i+1, err)
			}
			checkCancelled(t, reg, "twice000")
		}
		if alive() {
			t.Error("the session of a cancelled run is still there")
		}
		if err := reg.Forget(t.Context(), "twice000"); err != nil {
			t.Errorf("forget a cancelled load: %v", err)
		}
		checkForgotten(t, url, "twice000")
		if err := reg.Forget(t.Context(), "twice000"); !errors.Is(err, registry.ErrNoLoad) {
			t.Errorf("a load that is not there is forgotten: got %v, want ErrNoLoad", err)
		}
	})
}

// TestReplyToAnEndIsLost loses the reply to the transaction that ends a load: it is ended,
// and what comes behind the transaction is done all the same.
func TestReplyToAnEndIsLost(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		at := loadertest.Match{SQL: `^COMMIT`, Kind: loadertest.MsgStatement}
		if s.Cockroach {
			at.SQL = `^RELEASE SAVEPOINT`
		}
		url := s.NewDatabase(t)
		for id, end := range map[string]func(*registry.Registry) error{
			"cancel00": func(reg *registry.Registry) error { return reg.Cancel(t.Context(), "cancel00") },
			"forget00": func(reg *registry.Registry) error { return reg.Forget(t.Context(), "forget00") },
		} {
			alive := inWork(t, url, id)
			proxy := loadertest.NewProxy(t, url)
			reg, _ := open(t, proxy.URL())
			lost := &loadertest.Fault{When: at, Do: loadertest.SwallowReply}
			proxy.Add(lost)
			if err := end(reg); err != nil || !lost.Fired() {
				t.Errorf("%s: got %v, and %d replies were lost, want 1", id, err, lost.Count())
			}
			if alive() {
				t.Errorf("%s: the run's session is still there", id)
			}
		}
		reg, _ := open(t, url)
		checkCancelled(t, reg, "cancel00")
		checkForgotten(t, url, "forget00")
	})
}

// TestForgetThatStopped ends a Forget in the middle of what it removes: the next one finds
// the load, and removes the rest.
func TestForgetThatStopped(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		inWork(t, url, "half0000")
		proxy := loadertest.NewProxy(t, url)
		reg, _ := open(t, proxy.URL())
		proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `^DELETE FROM loader.moved`, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "42501"})
		if err := reg.Forget(t.Context(), "half0000"); err == nil {
			t.Error("a Forget that was refused gives no error")
		}
		if err := reg.Forget(t.Context(), "half0000"); err != nil {
			t.Error(err)
		}
		checkForgotten(t, url, "half0000")
	})
}
