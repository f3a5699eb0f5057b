package server_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestTogether has readers ask one, two and three questions, some through readers of their own:
// what is asked at the same time takes one round trip, an error is its own reader's alone, and
// answers are as if asked one by one.
func TestTogether(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		ctx := context.Background()
		p := loadertest.NewProxy(t, s.URL())
		defer p.Close()
		pool, err := pgxpool.New(ctx, p.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if err := pool.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		type querier = server.Querier
		ask := func(n *int, sql string, args ...any) func(context.Context, querier) error {
			return func(ctx context.Context, db querier) error { return db.QueryRow(ctx, sql, args...).Scan(n) }
		}
		before := p.Stats().Trips
		var got [8]int
		var texts []string
		var empty, refused error
		err = server.Together(ctx, pool,
			ask(&got[0], "SELECT 1"),
			func(ctx context.Context, db querier) error {
				if err := ask(&got[1], "SELECT $1::INT8 + 1", 1)(ctx, db); err != nil {
					return err
				}
				return server.Together(ctx, db, ask(&got[2], "SELECT 3"), func(context.Context, querier) error { return nil },
					func(ctx context.Context, db querier) error {
						refused = db.QueryRow(ctx, "SELECT no FROM nothing").Scan(&got[3])
						return ask(&got[3], "SELECT 4")(ctx, db)
					})
			},
			func(ctx context.Context, db querier) error {
				found, err := db.Query(ctx, "SELECT NULL::TEXT UNION ALL SELECT $1::TEXT ORDER BY 1 NULLS FIRST", "it's")
				if s.Cockroach {
					found, err = db.Query(ctx, "SELECT NULL::TEXT UNION ALL SELECT $1::TEXT ORDER BY 1", "it's")
				}
				if err != nil {
					return err
				}
				texts, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
					var s *string
					err := row.Scan(&s)
					if s == nil {
						return "NULL", err
					}
					return *s, err
				})
				return err
			},
			func(ctx context.Context, db querier) error {
				empty = db.QueryRow(ctx, "SELECT 1 WHERE false").Scan(&got[4])
				return nil
			},
		)
		if err != nil || got != [8]int{1, 2, 3, 4} || server.Code(refused) != "42P01" || !errors.Is(empty, pgx.ErrNoRows) || fmt.Sprint(texts) != "[NULL it's]" {
			t.Errorf("got %v, %v, %q; errors %v, %v, %v", got, texts, texts, err, refused, empty)
		}
		if n := p.Stats().Trips - before; n != 3 {
			t.Errorf("got %d round trips, want 3: %q", n, p.Stats().Asked)
		}
		if err := server.Together(ctx, pool, ask(&got[0], "SELECT 5"), ask(&got[1], "SELECT 1/0"), ask(&got[2], "SELECT 7")); server.Code(err) != "22012" || got[2] != 7 {
			t.Errorf("got %v and %v, want a division by zero, and 7", err, got)
		}

		// A connection that breaks, or that the server ends, fails every question behind it.
		for _, how := range []string{"cut", "ended"} {
			var errs [3]error
			sql := "SELECT 1"
			if how == "cut" {
				p.Add(&loadertest.Fault{When: loadertest.Match{From: loadertest.Backend}, Nth: 6, Do: loadertest.Cut})
			} else if s.Cockroach {
				continue // it answers first
			} else {
				sql = "SELECT pg_terminate_backend(pg_backend_pid())::INT"
			}
			within, cancel := context.WithTimeout(ctx, time.Minute)
			note := func(i int, sql string) func(context.Context, querier) error {
				return func(ctx context.Context, db querier) error {
					errs[i] = ask(&got[i], sql)(ctx, db)
					return nil
				}
			}
			server.Together(within, pool, note(0, sql), note(1, "SELECT 2"), note(2, "SELECT 3"))
			cancel()
			if errs[2] == nil || errs[1] == nil {
				t.Errorf("%s: got the errors %v", how, errs)
			}
			p.Heal()
			if err := pool.Ping(ctx); err != nil {
				t.Errorf("%s: the pool does not recover: %v", how, err)
			}
		}
	})
}

// TestTogetherHasEachTimeout asks questions that take longer than statement_timeout together, but
// not one by one.
func TestTogetherHasEachTimeout(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		loadertest.Slow(t)
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, s.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "SET statement_timeout = '2s'"); err != nil {
			t.Fatal(err)
		}
		sleep := func(ctx context.Context, db server.Querier) error {
			var slept string
			return db.QueryRow(ctx, "SELECT pg_sleep(0.8)::TEXT").Scan(&slept)
		}
		if err := server.Together(ctx, conn, sleep, sleep, sleep, sleep); err != nil {
			t.Error(err)
		}
	})
}
