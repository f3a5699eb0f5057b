package registry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// TestPooledRuns holds that a run behind a pooler, which has no session of its own, is alive as
// long as its heartbeat is; and that nobody ends a session for it, which may serve another
// client by then.
func TestPooledRuns(t *testing.T) {
	url := loadertest.PostgreSQLServer(t).NewDatabase(t)
	reg, _ := open(t, url)
	run := registry.NewRun(server.Info{Pooling: server.TransactionPooling})
	if !strings.HasPrefix(registry.SessionName("pooled01", run), "loader pooled ") {
		t.Errorf("its sessions are %q", registry.SessionName("pooled01", run))
	}
	for _, end := range []string{"takeover", "cancel", "forget"} {
		id := end[:3] + "00001"
		if err := reg.Add(t.Context(), registry.Load{ID: id, Kind: "points", Target: "public.points", Positions: 100, Spec: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		q := reg.Queue(id, run)
		q.Ledger = true
		lease(t, q, 100)
		second := reg.Queue(id, "second00")
		second.Ledger = true
		// The server lists no session of the first run: its heartbeat alone tells that it is alive.
		if _, err := second.Claim(t.Context(), 100); !errors.Is(err, loader.ErrBusy) {
			t.Fatalf("%s: a run with a heartbeat: %v, want ErrBusy", end, err)
		}
		// A session of the pool that its transactions went through, and that is another's now.
		session := sessionOf(t, url, id, run)
		// A chunk of it is under way when it is taken over.
		late := sessionOf(t, url, id, run)
		if _, err := late.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		if _, err := late.Exec(t.Context(), "INSERT INTO loader.ledger (load, lo, hi) SELECT $1, 10, 20 WHERE EXISTS (SELECT 1 FROM loader.claims WHERE load = $1 AND successor IS NULL FOR KEY SHARE)", id); err != nil {
			t.Fatal(err)
		}
		stale(t, url)
		ended := make(chan error, 1)
		var c loader.Lease
		go func() {
			var err error
			switch end {
			case "takeover":
				c, err = second.Claim(t.Context(), 10)
			case "cancel":
				err = reg.Cancel(t.Context(), id)
			case "forget":
				err = reg.Forget(t.Context(), id)
			}
			ended <- err
		}()
		// It waits for the chunk.
		loadertest.Eventually(t, "a wait for the chunk", func() bool {
			return loadertest.Value[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE FROM loader.claims%'") == 1
		})
		select {
		case err := <-ended:
			t.Fatalf("%s did not wait: %v", end, err)
		default:
		}
		if _, err := late.Exec(t.Context(), "COMMIT"); err != nil {
			t.Fatalf("%s: the chunk: %v", end, err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s: %v", end, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s does not end", end)
		}
		if !alive(session) || !alive(late) {
			t.Errorf("%s: a session of the pool was ended", end)
		}
		if end == "forget" {
			continue
		}
		if in, err := reg.In(t.Context(), id); err != nil || in.String() != "10-20" {
			t.Errorf("%s: %s is in, %v; want 10-20", end, in.String(), err)
		}
		if end == "takeover" && (c.Len() == 0 || c.First < 20 && c.End > 10) {
			t.Errorf("claimed %v", c.Range)
		}
	}
}
