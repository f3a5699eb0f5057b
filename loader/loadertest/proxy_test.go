package loadertest_test

import (
	"context"
	"errors"
	"fmt"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A bed is a table t (id INT PRIMARY KEY) in a fresh database, and a look at it
// that does not go through the proxy.
type bed struct {
	testing.TB
	url       string
	cockroach bool
	direct    *pgx.Conn
}

func makeBed(t testing.TB, srv loadertest.Server) *bed {
	t.Helper()
	b := &bed{TB: t, url: srv.NewDatabase(t), cockroach: srv.Cockroach}
	b.direct = b.dial(b.url)
	b.exec(b.direct, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	return b
}

func (b *bed) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	b.Cleanup(cancel)
	return ctx
}

func (b *bed) dial(url string) *pgx.Conn {
	b.Helper()
	c, err := pgx.Connect(b.ctx(), url)
	if err != nil {
		b.Fatalf("connect: %v", err)
	}
	b.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func (b *bed) exec(c *pgx.Conn, sql string, args ...any) {
	b.Helper()
	if _, err := c.Exec(b.ctx(), sql, args...); err != nil {
		b.Fatalf("%s: %v", sql, err)
	}
}

// rows returns the number of rows in t.
func (b *bed) rows() (n int) {
	b.Helper()
	if err := b.direct.QueryRow(b.ctx(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

func (b *bed) checkRows(want int) {
	b.Helper()
	if got := b.rows(); got != want {
		b.Errorf("%d rows in t, want %d", got, want)
	}
}

// eventually waits until t holds want rows.
func (b *bed) eventually(want int) {
	b.Helper()
	loadertest.Eventually(b, fmt.Sprintf("%d rows", want), func() bool { return b.rows() == want })
}

// sessionEnds waits until the server has no session of that application_name.
func (b *bed) sessionEnds(name string) {
	b.Helper()
	sessions := "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
	if b.cockroach {
		sessions = "SELECT count(*) FROM [SHOW CLUSTER SESSIONS] WHERE application_name = $1"
	}
	loadertest.Eventually(b, "the session ends", func() bool { return loadertest.Value[int64](b, b.url, sessions, name) == 0 })
}

// broken checks that err is an error of the connection and not of the server.
func (b *bed) broken(err error) {
	b.Helper()
	var pe *pgconn.PgError
	if err == nil || errors.As(err, &pe) {
		b.Errorf("error %v, want a broken connection", err)
	}
}

func (b *bed) sqlState(err error, want string) {
	b.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != want {
		b.Errorf("error %v, want SQLSTATE %s", err, want)
	}
}

const insert = "INSERT INTO t SELECT g, g FROM generate_series(1, $1::INT) AS g"

func TestPassesEverythingOn(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		p := loadertest.NewProxy(t, b.url)
		c := b.dial(p.URL())
		b.exec(c, insert, 10)
		tx, err := c.Begin(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		rows := [][]any{{int64(11), int64(1)}, {int64(12), int64(2)}}
		if !srv.Cockroach {
			if _, err := tx.CopyFrom(b.ctx(), pgx.Identifier{"t"}, []string{"id", "v"}, pgx.CopyFromRows(rows)); err != nil {
				t.Fatal(err)
			}
		} else {
			copyText(b, c, "11\t1\n12\t2\n")
		}
		if err := tx.Commit(b.ctx()); err != nil {
			t.Fatal(err)
		}
		var big string
		if err := c.QueryRow(b.ctx(), "SELECT $1::text", strings.Repeat("x", 9<<20)).Scan(&big); err != nil || len(big) != 9<<20 {
			t.Errorf("9 MiB there and back: %d bytes, %v", len(big), err)
		}
		b.checkRows(12)
		batch := &pgx.Batch{}
		for i := range 100 {
			batch.Queue("INSERT INTO t VALUES ($1, $2)", 100+i, i)
		}
		if err := c.SendBatch(b.ctx(), batch).Close(); err != nil {
			t.Error(err)
		}
		b.checkRows(112)
		s := p.Stats()
		if s.Connections != 1 || s.Open != 1 || s.Frontend[loadertest.MsgCopyDone] != 1 || s.Injected() != 0 || s.BytesToServer < 9<<20 {
			t.Errorf("stats %+v", s)
		}
	})
}

func copyText(b *bed, c *pgx.Conn, data string) error {
	_, err := c.PgConn().CopyFrom(b.ctx(), strings.NewReader(data), "COPY t FROM STDIN")
	return err
}

func TestSwallowReply(t *testing.T) {
	swallow := func(kind loadertest.Kind, sql string) *loadertest.Fault {
		return &loadertest.Fault{When: loadertest.Match{Kind: kind, SQL: sql}, Do: loadertest.SwallowReply}
	}
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for name, c := range map[string]struct {
			fault *loadertest.Fault
			do    func(c *pgx.Conn) error
			reply string
		}{
			"insert": {swallow(loadertest.MsgStatement, "^insert"), func(c *pgx.Conn) error {
				_, err := c.Exec(b.ctx(), insert, 5)
				return err
			}, "INSERT 0 5"},
			"simple insert": {swallow(loadertest.MsgStatement, "^insert"), func(c *pgx.Conn) error {
				_, err := c.Exec(b.ctx(), "INSERT INTO t SELECT generate_series(1, 5)")
				return err
			}, "INSERT 0 5"},
			"commit": {swallow(loadertest.MsgQuery, "^commit"), func(c *pgx.Conn) error {
				tx, err := c.Begin(b.ctx())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.Exec(b.ctx(), insert, 5); err != nil {
					t.Fatal(err)
				}
				return tx.Commit(b.ctx())
			}, "COMMIT"},
			"copy": {swallow(loadertest.MsgStatement, "^copy"), func(c *pgx.Conn) error {
				return copyText(b, c, "1\t1\n2\t2\n3\t3\n4\t4\n5\t5\n")
			}, "COPY 5"},
		} {
			t.Run(name, func(t *testing.T) {
				b.exec(b.direct, "DELETE FROM t")
				p := loadertest.NewProxy(t, b.url, c.fault)
				conn, err := pgx.Connect(b.ctx(), p.URL())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(b.ctx())
				b.broken(c.do(conn))
				b.checkRows(5) // at once: the server had answered
				if got := fmt.Sprint(c.fault.Replies()); got != "["+c.reply+"]" {
					t.Errorf("replies %v, want %s", got, c.reply)
				}
			})
		}
	})
}

func TestHold(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		hold := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^insert"}, Do: loadertest.Hold}
		p := loadertest.NewProxy(t, b.url, hold)
		c := b.dial(p.URL())
		_, err := c.Exec(b.ctx(), insert, 5)
		b.broken(err)
		<-c.PgConn().CleanupDone() // pgx cancels what broke, which must not meet the late statement
		b.checkRows(0)
		p.CloseAll() // does not lose what is held
		if got := fmt.Sprint(hold.Release()); got != "[INSERT 0 5]" {
			t.Errorf("released: %s", got)
		}
		b.checkRows(5)
		if got := hold.Release(); got != nil {
			t.Errorf("released again: %v", got)
		}
	})
}

func TestHoldCommit(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		hold := &loadertest.Fault{When: loadertest.Match{SQL: "^commit"}, Do: loadertest.Hold, Reset: true}
		p := loadertest.NewProxy(t, b.url, hold)
		tx, err := b.dial(p.URL()).Begin(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(b.ctx(), insert, 5); err != nil {
			t.Fatal(err)
		}
		b.broken(tx.Commit(b.ctx()))
		if got := fmt.Sprint(hold.Release()); got != "[COMMIT]" {
			t.Errorf("released: %s", got)
		}
		b.checkRows(5)
	})
}

func TestHeldStatementIsFenced(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		hold := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^insert"}, Do: loadertest.Hold}
		p := loadertest.NewProxy(t, b.url, hold)
		_, err := b.dial(withParam(p.URL(), "application_name", "older run")).Exec(b.ctx(), insert, 5)
		b.broken(err)
		fence := "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'older run'"
		if srv.Cockroach {
			fence = "CANCEL SESSIONS (SELECT session_id FROM [SHOW CLUSTER SESSIONS] WHERE application_name = 'older run')"
		}
		b.exec(b.direct, fence)
		b.sessionEnds("older run")
		got := fmt.Sprint(hold.Release())
		t.Logf("released: %s", got)
		if strings.Contains(got, "INSERT") {
			t.Errorf("released: %s", got)
		}
		b.checkRows(0)
	})
}

func TestDuplicate(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		twice := &loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^insert"}, Do: loadertest.Duplicate, Times: 2}
		p := loadertest.NewProxy(t, b.url, twice)
		c := b.dial(p.URL())
		b.exec(c, insert, 5)
		b.checkRows(5)
		b.exec(c, "DELETE FROM t")
		b.checkRows(0)
		if got := fmt.Sprint(twice.Release()); got != "[INSERT 0 5]" {
			t.Errorf("released: %s", got)
		}
		b.checkRows(5)
		_, err := c.Exec(b.ctx(), insert, 5) // again the real server's own answer
		b.sqlState(err, "23505")
		if got := fmt.Sprint(twice.Release()); got != "[ERROR 23505]" {
			t.Errorf("released: %s", got)
		}
	})
}

// TestCutEverywhere cuts one transaction at its n-th message, n = 1, 2, … until a
// run is not cut: never a part of it, and all of it at the end.
func TestCutEverywhere(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		for _, do := range []loadertest.Action{loadertest.Cut, loadertest.CutMiddle, loadertest.CutAfter} {
			for n := 1; ; n++ {
				b.exec(b.direct, "DELETE FROM t")
				cut := &loadertest.Fault{Nth: n, Do: do, Reset: n%2 == 0}
				p := loadertest.NewProxy(t, b.url, cut)
				err := insertInTransaction(b.ctx(), withParam(p.URL(), "application_name", "to be cut"))
				p.Close()
				// What was passed on is executed after the cut as well: the
				// outcome is final when the session has gone.
				b.sessionEnds("to be cut")
				if !cut.Fired() {
					if err != nil {
						t.Errorf("%v: uncut run %d: %v", do, n, err)
					}
					b.checkRows(5)
					if n < 8 {
						t.Errorf("%v: only %d messages", do, n-1)
					}
					break
				}
				if err == nil {
					b.checkRows(5)
				} else if r := b.rows(); r != 0 && r != 5 {
					t.Errorf("%v at message %d: %d rows", do, n, r)
				} else if do != loadertest.CutAfter && r != 0 {
					t.Errorf("%v at message %d: %d rows although its COMMIT was not sent", do, n, r)
				}
			}
		}
	})
}

// TestMatch counts the same messages in several ways.
func TestMatch(t *testing.T) {
	srv := loadertest.PostgreSQLServer(t) // the client's messages are the same for every server
	b := makeBed(t, srv)
	at := func(m loadertest.Match, nth, times int, perConn bool) *loadertest.Fault {
		return &loadertest.Fault{When: m, Nth: nth, Times: times, PerConn: perConn, Do: loadertest.Delay}
	}
	statement := loadertest.Match{Kind: loadertest.MsgStatement}
	second, large := statement, statement
	second.Conn = 2
	large.Func = func(m *loadertest.Message) bool { return strings.Contains(m.SQL, "large") }
	faults := map[*loadertest.Fault]int{
		at(statement, 0, 0, false):  1,
		at(statement, 0, -1, false): 6,
		at(statement, 5, -1, false): 2,
		at(statement, 7, -1, false): 0,
		at(statement, 2, -1, true):  4, // the second and third on each
		at(statement, 0, 4, false):  4,
		at(second, 0, -1, false):    3,
		at(large, 0, -1, false):     2,
		at(loadertest.Match{Kind: loadertest.MsgParse, SQL: "large"}, 0, -1, false):                             2,
		at(loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgDataRow, SQL: "LARGE"}, 0, -1, false): 2,
	}
	p := loadertest.NewProxy(t, b.url)
	for f := range faults {
		p.Add(f)
	}
	for range 2 {
		c := b.dial(p.URL())
		b.exec(c, "SELECT 1")
		b.exec(c, "SELECT $1::text AS large", "x")
		b.exec(c, "SELECT $1::text AS small", "x")
	}
	for f, want := range faults {
		if f.Count() != want {
			t.Errorf("%+v, %d times: happened %d times, want %d", f.When, f.Times, f.Count(), want)
		}
	}
}

func insertInTransaction(ctx context.Context, url string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, insert, 5)
		return err
	})
}

// TestCutReplyEverywhere is TestCutEverywhere by the server's messages.
func TestCutReplyEverywhere(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, srv loadertest.Server) {
		b := makeBed(t, srv)
		lost := 0
		for n := 1; ; n++ {
			b.exec(b.direct, "DELETE FROM t")
			cut := &loadertest.Fault{When: loadertest.Match{From: loadertest.Backend}, Nth: n, Do: loadertest.Cut}
			p := loadertest.NewProxy(t, b.url, cut)
			err := insertInTransaction(b.ctx(), p.URL())
			p.Close()
			r := b.rows()
			if err != nil && r == 5 {
				lost++
			} else if err == nil && r != 5 || r != 0 && r != 5 {
				t.Errorf("reply %d cut: %d rows, error %v", n, r, err)
			}
			if !cut.Fired() {
				break
			}
		}
		if lost == 0 {
			t.Errorf("no COMMIT whose reply was lost")
		}
	})
}

// withParam returns url with one more parameter.
func withParam(url, key, value string) string {
	u, _ := neturl.Parse(url)
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}
