package loadertest_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
)

// TestTrips counts the round trips of what is known: a statement, a batch, COPY, a statement
// that is prepared first, and several sessions at once.
func TestTrips(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		const rtt = 40 * time.Millisecond
		b := makeBed(t, srv)
		p := loadertest.NewProxy(t, b.url)
		p.Distance(rtt, 0)
		ctx := context.Background()
		config, err := pgx.ParseConfig(p.URL())
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
		connect := func() *pgx.Conn {
			c, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close(ctx) })
			return c
		}
		c, other := connect(), connect()
		if s := p.Stats(); s.Trips != 0 || s.Chain != 0 {
			t.Errorf("%d trips, a chain of %d, to connect; want none counted", s.Trips, s.Chain)
		}
		check := func(what string, trips, chain int, do func()) {
			t.Helper()
			before, start := p.Stats(), time.Now()
			do()
			took, s := time.Since(start), p.Stats()
			if got := s.Trips - before.Trips; got != trips {
				t.Errorf("%s: %d trips, want %d: %s", what, got, trips, strings.Join(s.Asked[before.Trips:], "; "))
			}
			if got := s.Chain - before.Chain; got != chain || took < time.Duration(chain)*rtt {
				t.Errorf("%s: a chain of %d in %v, want %d of %v each", what, got, took, chain, rtt)
			}
		}
		exec := func(c *pgx.Conn, sql string, args ...any) {
			if _, err := c.Exec(ctx, sql, args...); err != nil {
				t.Error(err)
			}
		}
		check("a statement", 1, 1, func() { exec(c, "SELECT $1::INT8", 1) })
		check("three in turn", 3, 3, func() {
			for range 3 {
				exec(c, "SELECT 1")
			}
		})
		check("a batch", 1, 1, func() {
			var batch pgx.Batch
			for range 5 {
				batch.Queue("SELECT $1::INT8", 1)
			}
			if err := c.SendBatch(ctx, &batch).Close(); err != nil {
				t.Error(err)
			}
		})
		check("prepared first", 2, 2, func() { exec(c, "SELECT $1::INT8 + 1", pgx.QueryExecModeCacheStatement, 1) })
		check("COPY", 1, 1, func() {
			if _, err := c.PgConn().CopyFrom(ctx, strings.NewReader(""), "COPY t FROM STDIN"); err != nil {
				t.Error(err)
			}
		})
		check("two sessions at once", 2, 1, func() {
			var both sync.WaitGroup
			both.Go(func() { exec(c, "SELECT 1") })
			both.Go(func() { exec(other, "SELECT 1") })
			both.Wait()
		})
		check("two sessions in turn", 2, 2, func() {
			exec(c, "SELECT 1")
			exec(other, "SELECT 1")
		})

		p.Distance(0, 256<<10)
		slow, start := connect(), time.Now()
		exec(slow, "SELECT length($1::TEXT)", strings.Repeat("x", 128<<10))
		if took := time.Since(start); took < 400*time.Millisecond {
			t.Errorf("128 KiB at 256 KiB/s took %v", took)
		}
	})
}
