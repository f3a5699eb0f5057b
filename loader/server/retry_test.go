package server_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestOpeningWaitsForAServerThatStarts kills a PostgreSQL that has much to recover, and opens
// it while it does: it says 57P03 until it is done, which is waited for.
func TestOpeningWaitsForAServerThatStarts(t *testing.T) {
	loadertest.Long(t)
	s, db := loadertest.OwnServer(t, server.PostgreSQL)
	loadertest.Exec(t, s.URL(), "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000000) AS g")
	config, err := server.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	reach := func() error { return server.With(t.Context(), config, func(*pgx.Conn) error { return nil }) }
	if err := db.Crash(); err != nil {
		t.Fatal(err)
	}
	restarted := make(chan error, 1)
	go func() { restarted <- db.Restart(t.Context()) }()
	for err = reach(); err != nil && server.Code(err) == ""; err = reach() {
		// Nothing listens yet: that is no reason to wait for a user.
	}
	if server.Code(err) != "57P03" {
		t.Errorf("got %v from a server that recovers, want 57P03", err)
	}
	asked := 0
	err = server.RetryOpening(t.Context(), func() error {
		asked++
		return reach()
	})
	if err != nil || asked < 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	if err := <-restarted; err != nil {
		t.Error(err)
	}
}
