package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestSettingsOfEachTransaction goes through a pooler that gives each transaction another
// session: all of them have the settings, however their statements are sent, and pgx sees their
// answers alone.
func TestSettingsOfEachTransaction(t *testing.T) {
	loadertest.Slow(t)
	ctx := t.Context()
	direct := loadertest.PostgreSQLServer(t).NewDatabase(t)
	loadertest.Exec(t, direct, "CREATE TABLE t (id INT8, had TEXT DEFAULT current_setting('statement_timeout'))")
	pooled := loadertest.Pooler(t, direct, "pool_mode = transaction\nserver_round_robin = 1")
	pool := poolOf(t, params(t, pooled, "application_name", "loadertest"), server.Sessions{Name: "loadertest", Max: 2, AttemptTimeout: time.Minute})
	const want = "54s" // a tenth shorter
	check := func(how, got string, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %s", how, got, err, want)
		}
	}
	const ask = "SELECT current_setting('statement_timeout')"
	var got string
	for range 3 {
		err := pool.QueryRow(ctx, ask).Scan(&got)
		check("a query", got, err)
		err = pool.QueryRow(ctx, ask+" WHERE $1 = 7", 7).Scan(&got)
		check("with a parameter", got, err)
		err = pool.QueryRow(ctx, ask, pgx.QueryExecModeSimpleProtocol).Scan(&got)
		check("as text", got, err)
		for _, o := range []pgx.TxOptions{{}, {IsoLevel: pgx.RepeatableRead}, {IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}} {
			err = pgx.BeginTxFunc(ctx, pool, o, func(tx pgx.Tx) error {
				level := ""
				if err := tx.QueryRow(ctx, "SELECT current_setting('transaction_isolation')").Scan(&level); err != nil || o.IsoLevel != "" && level != string(o.IsoLevel) {
					return fmt.Errorf("%v: it is %s, %w", o, level, err)
				}
				return tx.QueryRow(ctx, ask).Scan(&got)
			})
			check("a transaction", got, err)
		}
		var batch pgx.Batch
		batch.Queue("INSERT INTO t (id) VALUES ($1)", 1)
		batch.Queue(ask).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
		check("a batch", got, pool.SendBatch(ctx, &batch).Close())
		// Several transactions travel in one message.
		var list [4]string
		var failed error
		readers := []func(context.Context, server.Querier) error{func(ctx context.Context, db server.Querier) error {
			_, failed = db.Query(ctx, "SELECT 1/$1::INT", 0)
			return nil
		}}
		for i := range list {
			readers = append(readers, func(ctx context.Context, db server.Querier) error {
				return db.QueryRow(ctx, ask+" WHERE $1 = 7", 7).Scan(&list[i])
			})
		}
		err = server.Together(ctx, pool, readers...)
		for _, got := range list {
			check("together", got, err)
		}
		if server.Code(failed) != "22012" {
			t.Errorf("a division by zero together with others: %v", failed)
		}
		err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			tag, err := c.Conn().PgConn().CopyFrom(ctx, strings.NewReader("2\n3\n"), "COPY t (id) FROM STDIN")
			if err == nil && tag.RowsAffected() != 2 {
				err = fmt.Errorf("%s", tag)
			}
			return err
		})
		if err != nil {
			t.Errorf("COPY: %v", err)
		}
		// An error leaves the stream in order, in front of its rows and among them.
		var pg *pgconn.PgError
		if _, err := pool.Exec(ctx, "SELECT 1/0"); !errors.As(err, &pg) || pg.Code != "22012" {
			t.Errorf("a division by zero: %v", err)
		}
		if _, err := pool.Exec(ctx, "SELECT 1/$1::INT", 0); !errors.As(err, &pg) || pg.Code != "22012" {
			t.Errorf("a division by zero: %v", err)
		}
		err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			_, err := c.Conn().PgConn().CopyFrom(ctx, strings.NewReader(strings.Repeat("2\n", 100000)+"x\n"), "COPY t (id) FROM STDIN")
			return err
		})
		if !errors.As(err, &pg) || pg.Code != "22P02" {
			t.Errorf("COPY of a word: %v", err)
		}
		err = server.WithoutTimeout(ctx, pool, func(c *pgx.Conn) error { return c.QueryRow(ctx, ask).Scan(&got) })
		if err != nil || got != "0" {
			t.Errorf("without a timeout it is %s, %v", got, err)
		}
		n := 0
		rows, err := pool.Query(ctx, "SELECT g, repeat('x', 1000) FROM generate_series(1, $1) g", 5000)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			n++
		}
		if n != 5000 || rows.Err() != nil {
			t.Errorf("%d rows, %v", n, rows.Err())
		}
	}
	if got := loadertest.Value[string](t, direct, "SELECT min(had) || max(had) || count(*) FROM t"); got != want+want+"9" {
		t.Errorf("the rows say %s", got)
	}
	if got := setting(t, poolOf(t, direct, server.Sessions{}), "statement_timeout"); got != "0" {
		t.Errorf("others have %s", got)
	}
	// A late answer ends the connection as usual.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := pool.Exec(short, "SELECT pg_sleep(10)"); err == nil {
		t.Error("a sleep ended early")
	}
	err := pool.QueryRow(ctx, ask).Scan(&got)
	check("after it", got, err)
}

// TestNothingIsPrepared sends statements again and again in sessions whose connection string asks
// for no prepared statements; the control asks for nothing.
func TestNothingIsPrepared(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		address := s.NewDatabase(t)
		for _, c := range []struct {
			name, value string
			want        pgx.QueryExecMode
		}{
			{"default_query_exec_mode", "exec", pgx.QueryExecModeCacheDescribe},
			{"default_query_exec_mode", "simple_protocol", pgx.QueryExecModeCacheDescribe},
			{"default_query_exec_mode", "cache_describe", pgx.QueryExecModeCacheDescribe},
			{"statement_cache_capacity", "0", pgx.QueryExecModeCacheDescribe},
			{"default_query_exec_mode", "cache_statement", pgx.QueryExecModeCacheStatement},
		} {
			for _, prepared := range []bool{false, true} {
				pool := poolOf(t, params(t, address, c.name, c.value), server.Sessions{Prepared: prepared})
				mode := server.RepeatedMode(pool.Config().ConnConfig)
				if mode != c.want {
					t.Errorf("%s=%s: %v, want %v", c.name, c.value, mode, c.want)
				}
				var n int
				for range 2 {
					const ask = "SELECT count(*) FROM pg_catalog.pg_prepared_statements WHERE name <> '' AND statement LIKE $1"
					if err := pool.QueryRow(t.Context(), ask, mode, "%FROM pg_catalog.pg_prepared%").Scan(&n); err != nil {
						t.Fatal(err)
					}
				}
				if want := c.want == pgx.QueryExecModeCacheStatement; want != (n == 1) {
					t.Errorf("%s=%s: %d statements are prepared", c.name, c.value, n)
				}
			}
		}
	})
}

// TestPoolersAreRecognised asks each pool mode.
func TestPoolersAreRecognised(t *testing.T) {
	direct := params(t, loadertest.PostgreSQLServer(t).NewDatabase(t), "application_name", "loadertest")
	for _, c := range []struct {
		settings string
		want     server.Pooling
		most     int
	}{
		{"pool_mode = transaction", server.TransactionPooling, 0},
		{"pool_mode = transaction\ndefault_pool_size = 1", server.TransactionPooling, 0},
		{"pool_mode = statement", server.StatementPooling, 0},
		{"pool_mode = session", server.SessionPooling, 0},
		{"pool_mode = session\ndefault_pool_size = 2", server.SessionPooling, 2},
	} {
		srv := loadertest.Open(t, loadertest.Pooler(t, direct, c.settings))
		most := srv.MaxSessions()
		if c.want == server.SessionPooling && c.most == 0 && most >= 3 {
			most = 0 // a busy machine starts sessions slowly
		}
		if srv.Pooling != c.want || most != c.most {
			t.Errorf("%q: %v with %d sessions, want %v with %d", c.settings, srv.Pooling, srv.MaxSessions(), c.want, c.most)
		}
	}
	if srv := loadertest.Open(t, direct); srv.Pooled() {
		t.Errorf("the server itself: %v", srv.Pooling)
	}
}

// TestPoolTakesNoMoreSessionsThanThePooler asks for more sessions than a pooler in session mode
// has. The third user of the pool waits for one that is given back. It asks the pooler for none: that
// would take seconds and be refused.
func TestPoolTakesNoMoreSessionsThanThePooler(t *testing.T) {
	direct := loadertest.PostgreSQLServer(t).NewDatabase(t)
	pooled := loadertest.Pooler(t, direct, "pool_mode = session\ndefault_pool_size = 2")
	pool := poolOf(t, params(t, pooled, "application_name", "loadertest"), server.Sessions{Name: "loadertest", Max: 4, Ready: 1, AttemptTimeout: time.Minute})
	var taken []*pgxpool.Conn
	for range 2 {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatalf("a user of the pool gets none, of the 2 sessions that the pooler has: %v", err)
		}
		taken = append(taken, conn)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := pool.Acquire(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third user gets %v while two hold the sessions, want that it waits", err)
	}
	if n := pool.Stat().TotalConns(); n != 2 { // those that are being opened count
		t.Errorf("the pool takes %d, of the 2 sessions that the pooler has", n)
	}
	for _, conn := range taken {
		conn.Release()
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatalf("a user of the pool gets none of the 2 sessions that were given back: %v", err)
	}
	conn.Release()
}
