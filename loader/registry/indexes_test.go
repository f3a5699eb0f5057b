package registry_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
)

// deferred enters a load that has dropped two indexes.
func deferred(t *testing.T, s loadertest.Server, id string) (url string) {
	t.Helper()
	url, reg := entered(t, s, id, 100)
	if err := reg.Defer(t.Context(), id, []registry.Index{{Name: "first", Create: "CREATE 1"}, {Name: "second", Create: "CREATE 2"}}); err != nil {
		t.Fatal(err)
	}
	return url
}

// checkDeferred fails the test unless n indexes of the load are to be made again.
func checkDeferred(t *testing.T, url, id string, n int64) {
	t.Helper()
	if got := loadertest.Value[int64](t, url, fmt.Sprintf("SELECT count(*) FROM loader.indexes WHERE load = '%s'", id)); got != n {
		t.Errorf("%d indexes are to be made again, want %d", got, n)
	}
}

// TestIndexesTakeTheirTime makes an index that takes longer than an attempt at a call of
// the registry, and than such calls are repeated: it is made once, and that is all.
func TestIndexesTakeTheirTime(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := deferred(t, s, "slow0000")
		reg, _ := open(t, url)
		reg.AttemptTimeout, reg.RetryFor = 250*time.Millisecond, 250*time.Millisecond
		calls := map[string]int{}
		err := reg.Restore(t.Context(), "slow0000", func(x registry.Index) error {
			if calls[x.Name]++; calls[x.Name] == 1 && x.Name == "first" {
				loadertest.Exec(t, url, "SELECT pg_sleep(0.7)")
			}
			return nil
		})
		if err != nil || calls["first"] != 1 || calls["second"] != 1 {
			t.Errorf("got %v, and the indexes were made so often: %v; want each once", err, calls)
		}
		checkDeferred(t, url, "slow0000", 0)
	})
}

// TestIndexesThatFail has an index fail for a reason that passes, which costs another
// attempt, and for one that does not: nothing is forgotten then, and the next call makes
// what is missing.
func TestIndexesThatFail(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := deferred(t, s, "fail0000")
		reg, _ := open(t, url)
		var calls []string
		make := func(x registry.Index) error {
			calls = append(calls, x.Name)
			switch {
			case len(calls) == 1:
				return &pgconn.PgError{Code: "40001"}
			case len(calls) == 3:
				return &pgconn.PgError{Code: "23505"}
			}
			return nil
		}
		if err := reg.Restore(t.Context(), "fail0000", make); err == nil || len(calls) != 3 {
			t.Errorf("got %v after %v; want the second index to fail, the first to be tried twice", err, calls)
		}
		checkDeferred(t, url, "fail0000", 2)
		if err := reg.Forget(t.Context(), "fail0000"); !errors.Is(err, registry.ErrDeferred) {
			t.Errorf("a load is forgotten that lacks indexes: %v, want ErrDeferred", err)
		}
		if err := reg.Restore(t.Context(), "fail0000", make); err != nil || len(calls) != 5 {
			t.Errorf("got %v after %v; want both again", err, calls)
		}
		checkDeferred(t, url, "fail0000", 0)
		// A load that was ended drops nothing.
		if err := reg.Cancel(t.Context(), "fail0000"); err != nil {
			t.Fatal(err)
		}
		if err := reg.Defer(t.Context(), "fail0000", []registry.Index{{Name: "third", Create: "CREATE 3"}}); !errors.Is(err, loader.ErrLost) {
			t.Errorf("a cancelled load defers an index: %v, want ErrLost", err)
		}
		checkDeferred(t, url, "fail0000", 0)
	})
}
