package loadertest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"bulkload/loader/loadertest"

	"github.com/jackc/pgx/v5"
)

func inject(code string, kind loadertest.Kind, sql string) *loadertest.Fault {
	return &loadertest.Fault{When: loadertest.Match{Kind: kind, SQL: sql}, Do: loadertest.Inject, Code: code}
}

func TestInjectOutsideTransaction(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		kinds := []loadertest.Kind{loadertest.MsgParse, loadertest.MsgBind, loadertest.MsgDescribe, loadertest.MsgExecute}
		if !srv.Cockroach { // which commits at Execute
			kinds = append(kinds, loadertest.MsgSync)
		}
		kinds = append(kinds, loadertest.MsgQuery)
		var faults []*loadertest.Fault
		for _, k := range kinds {
			faults = append(faults, inject("40001", k, "^insert"))
		}
		c := b.dial(loadertest.NewProxy(t, b.url, faults...).URL())
		for i := range len(faults) - 1 {
			_, err := c.Exec(b.ctx(), insert, pgx.QueryExecModeExec, 5) // Parse to Sync at once
			b.sqlState(err, "40001")
			if s := c.PgConn().TxStatus(); s != 'I' {
				t.Errorf("attempt %d: status %q, want I", i, s)
			}
			b.checkRows(0)
		}
		_, err := c.Exec(b.ctx(), "INSERT INTO t VALUES (7)")
		b.sqlState(err, "40001")
		b.exec(c, insert, 5) // the same connection goes on
		b.checkRows(5)
	})
}

func TestInjectInTransaction(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for _, simple := range []bool{false, true} {
			b.exec(b.direct, "DELETE FROM t")
			p := loadertest.NewProxy(t, b.url,
				inject("40001", loadertest.MsgStatement, "^insert"),
				inject("40001", loadertest.MsgStatement, "^release"))
			c := b.dial(p.URL())
			add := func() error {
				if simple {
					_, err := c.Exec(b.ctx(), "INSERT INTO t SELECT generate_series(1, 5)")
					return err
				}
				_, err := c.Exec(b.ctx(), insert, 5)
				return err
			}
			failed := func(err error) {
				t.Helper()
				b.sqlState(err, "40001")
				if s := c.PgConn().TxStatus(); s != 'E' {
					t.Errorf("status %q, want E", s)
				}
				b.exec(c, "ROLLBACK TO SAVEPOINT cockroach_restart")
			}
			b.exec(c, "BEGIN")
			b.exec(c, "SAVEPOINT cockroach_restart")
			failed(add())
			if err := add(); err != nil {
				t.Fatal(err)
			}
			_, err := c.Exec(b.ctx(), "RELEASE SAVEPOINT cockroach_restart")
			failed(err)
			if err := add(); err != nil { // not 23505: the first one was rolled back
				t.Fatal(err)
			}
			b.exec(c, "RELEASE SAVEPOINT cockroach_restart")
			b.exec(c, "COMMIT")
			b.checkRows(5)
		}
	})
}

// TestPrecede has the server execute another statement in front of the client's, in its
// transaction, unseen unless it fails.
func TestPrecede(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement} {
			b.exec(b.direct, "DELETE FROM t")
			when := loadertest.Match{Kind: loadertest.MsgBind, SQL: "^insert"}
			c := b.dial(loadertest.NewProxy(t, b.url,
				&loadertest.Fault{When: when, Do: loadertest.Precede, Text: "INSERT INTO t VALUES (100)"},
				&loadertest.Fault{When: when, Nth: 2, Do: loadertest.Precede, Text: "SELECT 1/0"}).URL())
			add := func() error {
				return pgx.BeginFunc(b.ctx(), c, func(tx pgx.Tx) error {
					tag, err := tx.Exec(b.ctx(), insert, mode, 5)
					if err == nil && tag.RowsAffected() != 5 {
						t.Errorf("%s: got %q, want the answer to the client's statement", mode, tag)
					}
					return err
				})
			}
			if err := add(); err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
			b.checkRows(6)
			b.exec(c, "DELETE FROM t")
			b.sqlState(add(), "22012")
			b.checkRows(0)
			if err := add(); err != nil { // the same connection goes on
				t.Fatalf("%s: %v", mode, err)
			}
			b.checkRows(5)
		}
	})
}

func TestInjectAtCommit(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		c := b.dial(loadertest.NewProxy(t, b.url, inject("40001", loadertest.MsgStatement, "^commit")).URL())
		b.exec(c, "BEGIN")
		b.exec(c, insert, 5)
		_, err := c.Exec(b.ctx(), "COMMIT")
		b.sqlState(err, "40001")
		if s := c.PgConn().TxStatus(); s != 'I' {
			t.Errorf("status %q after COMMIT, want I", s)
		}
		b.checkRows(0)
		b.exec(c, insert, 5)
		b.checkRows(5)
	})
}

func TestInjectAfterCommit(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for _, at := range [][2]string{{"^commit", "40003"}, {"^insert", "40003"}, {"^commit", "57P01"}} {
			b.exec(b.direct, "DELETE FROM t")
			sql, code := at[0], at[1]
			f := inject(code, loadertest.MsgStatement, sql)
			f.Do = loadertest.InjectAfter
			c := b.dial(loadertest.NewProxy(t, b.url, f).URL())
			var err error
			if sql == "^commit" {
				b.exec(c, "BEGIN")
				b.exec(c, insert, 5)
				_, err = c.Exec(b.ctx(), "COMMIT")
			} else {
				_, err = c.Exec(b.ctx(), insert, 5)
			}
			b.sqlState(err, code)
			b.checkRows(5)
			if code == "40003" { // the connection goes on
				b.exec(c, "DELETE FROM t")
			} else if !c.IsClosed() {
				t.Errorf("the connection is still open after %s", code)
			}
		}
	})
}

func TestInjectIntoCopy(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for _, kind := range []loadertest.Kind{loadertest.MsgQuery, loadertest.MsgCopyData, loadertest.MsgStatement} {
			c := b.dial(loadertest.NewProxy(t, b.url, inject("53100", kind, "^copy")).URL())
			b.sqlState(copyText(b, c, "1\t1\n2\t2\n"), "53100")
			b.checkRows(0)
			if err := copyText(b, c, "1\t1\n2\t2\n"); err != nil {
				t.Errorf("%s: the COPY after it: %v", kind, err)
			}
			b.checkRows(2)
			b.exec(c, "DELETE FROM t")
		}
	})
}

func TestInjectIntoPipeline(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		f := inject("40001", loadertest.MsgExecute, "")
		f.Nth = 3
		c := b.dial(loadertest.NewProxy(t, b.url, f).URL())
		batch := &pgx.Batch{}
		for i := range 5 {
			batch.Queue("INSERT INTO t VALUES ($1)", i)
		}
		r := c.SendBatch(b.ctx(), batch)
		for i := range 2 {
			if _, err := r.Exec(); err != nil {
				t.Errorf("statement %d: %v", i, err)
			}
		}
		_, err := r.Exec()
		b.sqlState(err, "40001")
		r.Close()
		if srv.Cockroach { // where each statement of a pipeline was a transaction until 22.2
			b.exec(c, "DELETE FROM t")
		}
		b.checkRows(0)
		b.exec(c, insert, 5)
	})
}

func TestInjectFatal(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		p := loadertest.NewProxy(t, b.url,
			inject("57P01", loadertest.MsgStatement, "^insert"), inject("57P03", loadertest.MsgStartup, ""))
		_, err := pgx.Connect(b.ctx(), p.URL())
		b.sqlState(err, "57P03")
		c := b.dial(p.URL())
		_, err = c.Exec(b.ctx(), insert, 5)
		b.sqlState(err, "57P01")
		if !c.IsClosed() {
			t.Error("the connection is still open")
		}
		b.checkRows(0)
	})
}

// TestInjectWithProbability runs transactions on several connections into a storm
// of 40001: what succeeded is there, once.
func TestInjectWithProbability(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		storm := inject("40001", loadertest.MsgStatement, "^(insert|commit)")
		storm.P, storm.Seed = 0.3, 1
		p := loadertest.NewProxy(t, b.url, storm)
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				c, err := pgx.Connect(b.ctx(), p.URL())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close(context.Background())
				for i := 0; i < 20; {
					err := pgx.BeginFunc(b.ctx(), c, func(tx pgx.Tx) error {
						_, err := tx.Exec(b.ctx(), "INSERT INTO t VALUES ($1)", w*100+i)
						return err
					})
					if err == nil {
						i++
						continue
					}
					b.sqlState(err, "40001")
				}
			})
		}
		wg.Wait()
		b.checkRows(60)
		if n := storm.Count(); n < 20 || n != p.Stats().Injected() {
			t.Errorf("%d faults, stats %v", n, p.Stats().Faults)
		}
		p.Heal()
		n := storm.Count()
		b.exec(b.dial(p.URL()), "INSERT INTO t VALUES (1000)")
		if storm.Count() != n {
			t.Error("a fault after Heal")
		}
	})
}

func TestDelayAndThrottle(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		delay := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^insert"},
			Do: loadertest.Delay, Delay: 300 * time.Millisecond}
		p := loadertest.NewProxy(t, b.url, delay)
		c := b.dial(p.URL())
		took := func(f func()) time.Duration {
			start := time.Now()
			f()
			return time.Since(start)
		}
		if d := took(func() { b.exec(c, insert, 5) }); d < 300*time.Millisecond {
			t.Errorf("the delayed statement took %v", d)
		}
		p.Throttle(64 << 10)
		text := make([]byte, 32<<10)
		for i := range text {
			text[i] = 'x'
		}
		if d := took(func() { b.exec(c, "SELECT length($1::text)", string(text)) }); d < 400*time.Millisecond {
			t.Errorf("32 KiB at 64 KiB/s took %v", d)
		}
		p.Heal()
		if d := took(func() { b.exec(c, "SELECT length($1::text)", string(text)) }); d > 300*time.Millisecond {
			t.Errorf("32 KiB without throttle took %v", d)
		}
	})
}

func TestBlackHole(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		hole := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^insert"}, Do: loadertest.BlackHole}
		p := loadertest.NewProxy(t, b.url, hole)
		c, other := b.dial(p.URL()), b.dial(p.URL())
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err := c.Exec(ctx, insert, 5)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		b.exec(other, "SELECT 1") // the others are not touched
		b.checkRows(0)
		// pgx cancels what it gave up: let that pass, so that it does not hit the late statement.
		loadertest.Eventually(t, "the cancel request, and nothing else, ends", func() bool {
			s := p.Stats()
			return s.CancelRequests > 0 && s.Open == 2
		})
		p.Heal()
		if !srv.Cockroach { // which drops the statement when the client's end arrives with it
			b.eventually(5) // what was sent arrives late
		}
	})
}

func TestBlackHoleAllAndRefuse(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		p := loadertest.NewProxy(t, b.url)
		c := b.dial(p.URL())
		p.BlackHole(loadertest.ToClient)
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if _, err := c.Exec(ctx, "INSERT INTO t VALUES (1)"); err == nil {
			t.Error("an answer out of the black hole")
		}
		b.eventually(1) // only the answers vanish
		p.BlackHole(nil)
		if _, err := pgx.Connect(ctx, p.URL()); err == nil {
			t.Error("a new connection out of the black hole")
		}
		p.CloseAll()
		p.Heal()
		b.exec(b.dial(p.URL()), "INSERT INTO t VALUES (2)")
		p.Refuse()
		if _, err := pgx.Connect(b.ctx(), p.URL()); err == nil {
			t.Error("a connection although refused")
		}
		if s := p.Stats(); s.Refused == 0 {
			t.Errorf("stats %+v", s)
		}
		p.Heal()
		b.exec(b.dial(p.URL()), "INSERT INTO t VALUES (3)")
		b.checkRows(3)
	})
}

func TestEncryptionAndCancelRequests(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		p := loadertest.NewProxy(t, b.url)
		c := b.dial(withParam(p.URL(), "sslmode", "prefer"))
		if s := p.Stats(); s.SSLRequests != 1 {
			t.Errorf("stats %+v", s)
		}
		ctx, cancel := context.WithCancel(b.ctx())
		time.AfterFunc(200*time.Millisecond, func() { c.PgConn().CancelRequest(b.ctx()); cancel() })
		start := time.Now()
		c.Exec(ctx, "SELECT pg_sleep(5)")
		if d := time.Since(start); d > 4*time.Second {
			t.Errorf("cancelled after %v", d)
		}
		if s := p.Stats(); s.CancelRequests == 0 {
			t.Errorf("stats %+v", s)
		}
	})
}
