package registry_test

import (
	"errors"
	"testing"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// TestOnlyTheLedgerIsBelieved has a run with ledger rows believe in more than the ledger
// has, as after a crash: what it believes is neither checkpointed nor recorded, and what
// the ledger lacks is free again.
func TestOnlyTheLedgerIsBelieved(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "crash000", 100)
		q := reg.Queue("crash000", "running0")
		q.Ledger = true
		c := lease(t, q, 100)
		loadertest.Exec(t, url, "INSERT INTO loader.ledger (load, lo, hi) VALUES ('crash000', 0, 40)")
		c.Done.Add(c.Range)
		if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
			t.Error(err)
		}
		if in, err := reg.In(t.Context(), "crash000"); err != nil || in.String() != "0-40" {
			t.Errorf("after a checkpoint %q is in, %v; want what the ledger has", in.String(), err)
		}
		checkGone(t, q.Release(t.Context(), c), chunker.Range{First: 40, End: 100})
		if l, err := reg.Get(t.Context(), "crash000"); err != nil || l.Done.String() != "0-40" || l.State != registry.Loading {
			t.Errorf("the record has %q, %s, %v; want what the ledger has", l.Done.String(), l.State, err)
		}
		if c, err := q.Claim(t.Context(), 100); err != nil || c.Range != (chunker.Range{First: 40, End: 100}) {
			t.Errorf("claimed %v, %v; want what is gone", c.Range, err)
		}
	})
}

// TestReleaseThatACrashLost has a claim come back whose release was confirmed: the run gets
// it again, with what the ledger has of it.
func TestReleaseThatACrashLost(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "crash000", 100)
		q := reg.Queue("crash000", "running0")
		q.Ledger = true
		c := lease(t, q, 100)
		if err := q.Release(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		loadertest.Exec(t, url, "INSERT INTO loader.claims (load, lo, hi, run) VALUES ('crash000', 0, 100, 'running0')",
			"INSERT INTO loader.ledger (load, lo, hi) VALUES ('crash000', 20, 40)")
		if c := lease(t, q, 100); c.Done.String() != "20-40" {
			t.Errorf("of the claim %q is in, want what the ledger has", c.Done.String())
		}
	})
}

// TestClaimThatACrashLost has a claim vanish that a run works on: the run does not work on
// its positions a second time.
func TestClaimThatACrashLost(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "crash000", 100)
		q := reg.Queue("crash000", "running0")
		lease(t, q, 100)
		loadertest.Exec(t, url, "DELETE FROM loader.claims")
		if c, err := q.Claim(t.Context(), 30); !errors.Is(err, loader.ErrGaveUp) {
			t.Errorf("claimed %v, %v; want to give up", c.Range, err)
		}
	})
}

// TestCrashTakesMarkers has a run without ledger rows go on behind a crash, which the
// removal of the markers stands for: the crash may have taken what it was told.
func TestCrashTakesMarkers(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "crash000", 100)
		if err := reg.MakeMarkers(t.Context()); err != nil {
			t.Fatal(err)
		}
		q := reg.Queue("crash000", "running0")
		q.Markers, q.LooksUp = true, true
		c := lease(t, q, 100)
		c.Done.Add(chunker.Range{End: 30})
		if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
			t.Error(err)
		}
		loadertest.Exec(t, url, "TRUNCATE loader.markers")
		c.Done.Add(c.Range)
		if err := q.Checkpoint(t.Context(), []loader.Lease{c}); err != nil {
			t.Error(err)
		}
		if in, err := reg.In(t.Context(), "crash000"); err != nil || in.String() != "0-30" {
			t.Errorf("after a checkpoint behind the crash %q is in, %v; want that of before", in.String(), err)
		}
		checkGone(t, q.Release(t.Context(), c), chunker.Range{First: 30, End: 100})
		// What is claimed behind the crash is believed again.
		c = lease(t, q, 70)
		if c.Open.String() != "30-100" {
			t.Errorf("of the claim %q may have been sent, want what is gone", c.Open.String())
		}
		c.Done.Add(c.Range)
		if err := q.Release(t.Context(), c); err != nil {
			t.Error(err)
		}
		if l, err := reg.Get(t.Context(), "crash000"); err != nil || l.State != registry.Done {
			t.Errorf("the load is %s, %v; want done", l.State, err)
		}
		if err := reg.Forget(t.Context(), "crash000"); err != nil {
			t.Error(err)
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.markers"); n != 0 {
			t.Errorf("%d markers are left of a load that was forgotten", n)
		}
	})
}

func checkGone(t *testing.T, err error, want chunker.Range) {
	t.Helper()
	var gone *loader.GoneError
	if !errors.As(err, &gone) || len(gone.Ranges) != 1 || gone.Ranges[0] != want {
		t.Errorf("the release gives %v, want %v gone", err, want)
	}
}
