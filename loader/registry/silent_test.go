package registry_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"bulkload/loader"
	"bulkload/loader/loadertest"
)

// TestRunThatFallsSilentInTheRegistry has a run lock its load and send half of the next
// statement. Others end its session when it has waited for so long that it cannot live, and
// not before.
func TestRunThatFallsSilentInTheRegistry(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url, reg := entered(t, s, "silent00", 100)
		session := sessionOf(t, url, "silent00", "older000")
		const ms = "1000" // what ends a session that waits for a whole statement
		for _, q := range []string{
			"SET idle_in_transaction_session_timeout = " + ms, "SET statement_timeout = " + ms,
			"BEGIN", "SELECT done FROM loader.loads WHERE id = 'silent00' FOR UPDATE",
		} {
			if _, err := session.Exec(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		front := session.PgConn().Frontend()
		front.SendParse(&pgproto3.Parse{Query: "SELECT 1"})
		if err := front.Flush(); err != nil {
			t.Fatal(err)
		}
		newer := reg.Queue("silent00", "newer000")
		reg.AttemptTimeout, reg.RetryFor, reg.StaleAfter = 300*time.Millisecond, time.Second, time.Hour
		switch _, err := newer.Claim(t.Context(), 100); {
		case s.Cockroach && err == nil:
			return // it has ended the session by itself
		case !s.Cockroach && !errors.Is(err, loader.ErrGaveUp):
			t.Fatalf("beside a run that may live a claim gives %v, want ErrGaveUp", err)
		}
		reg.RetryFor, reg.StaleAfter = 10*time.Second, time.Millisecond
		if _, err := newer.Claim(t.Context(), 100); err != nil {
			t.Errorf("behind a run that is silent a claim gives %v", err)
		}
	})
}
