package load_test

import (
	"context"
	"errors"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/failure"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestTableOfAFailedLoadIsDropped holds that a table which was made for a load goes with it where
// no row is in, and only then.
func TestTableOfAFailedLoadIsDropped(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		ctx := context.Background()
		bad := write(t, "bad.csv", "id,v\n1,a\n2,b\n3,c,d\n")
		// 1. No row is in: the table is gone, and the load is over. The server asks for the
		// transaction again.
		req := fileRequest("t", bad)
		filesOf(req).CreateTable, req.Method = true, commit.Insert
		again := &loadertest.Fault{When: loadertest.Match{SQL: "^DROP TABLE", Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "40001"}
		l := newLoad(t, loadertest.NewProxy(t, url, again).URL(), req)
		if _, err := l.Run(ctx); !errors.Is(err, load.ErrDropped) || server.ErrorKind(err) != failure.Data {
			t.Errorf("got %v, want that the table is dropped", err)
		}
		if n := tableRows(t, url, "t"); n != -1 || !again.Fired() {
			t.Errorf("the table is there, with %d rows; asked for again: %t", n, again.Fired())
		}
		if got := table(t, url, "SELECT state FROM loader.loads WHERE id = '"+l.ID+"'"); len(got) != 1 || got[0] != `"cancelled"|` {
			t.Errorf("the load is %q, want that it is cancelled", got)
		}
		// 2. Some rows are in: it stays.
		one := req
		one.Chunk, one.Workers, one.InOrder = 1, 1, true
		l = newLoad(t, url, one)
		if _, err := l.Run(ctx); err == nil || errors.Is(err, load.ErrDropped) {
			t.Errorf("got %v, want an error of the record alone", err)
		}
		if n := tableRows(t, url, "t"); n != 2 {
			t.Errorf("the table has %d rows, want 2", n)
		}
		// An unfinished load of a former table of the name is no load of this one.
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
		l = newLoad(t, url, req)
		if _, err := l.Run(ctx); !errors.Is(err, load.ErrDropped) {
			t.Errorf("got %v, want that the table is dropped beside a load of a former table", err)
		}
		// 3. Somebody else has put a row in: it stays.
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
		l = newLoad(t, url, req)
		loadertest.Exec(t, url, "INSERT INTO t VALUES (7, 'x')")
		if _, err := l.Run(ctx); err == nil || errors.Is(err, load.ErrDropped) {
			t.Errorf("got %v, want an error of the record alone", err)
		}
		if n := tableRows(t, url, "t"); n != 1 {
			t.Errorf("the table has %d rows, want 1", n)
		}
		// 4. It is another table of that name: it stays.
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
		l = newLoad(t, url, req)
		loadertest.Exec(t, url, "DROP TABLE t", "CREATE TABLE t (id INT8, v TEXT)")
		if _, err := l.Run(ctx); err == nil || errors.Is(err, load.ErrDropped) {
			t.Errorf("got %v, want an error of the record alone", err)
		}
		if n := tableRows(t, url, "t"); n != 0 {
			t.Errorf("the table has %d rows, want 0", n)
		}
		// 5. Another load into it is unfinished: it stays.
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS t")
		l = newLoad(t, url, req)
		other := newLoad(t, url, fileRequest("t", write(t, "good.csv", "id,v\n4,a\n")))
		if _, err := l.Run(ctx); err == nil || errors.Is(err, load.ErrDropped) {
			t.Errorf("got %v, want an error of the record alone", err)
		}
		if _, err := other.Run(ctx); err != nil {
			t.Errorf("the other load: %v", err)
		}
	})
}

// TestCatalogMeetsWhatIsBeingDropped has a query of the catalog meet something that is being
// dropped, as CockroachDB's may where another database goes: the load opens at the next attempt.
func TestCatalogMeetsWhatIsBeingDropped(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		dropped := &loadertest.Fault{When: loadertest.Match{SQL: "pg_index", Kind: loadertest.MsgStatement}, Do: loadertest.Inject,
			Code: server.Uncategorized, Text: "descriptor is being dropped", Times: 2}
		l := newLoad(t, loadertest.NewProxy(t, url, dropped).URL(), load.Request{Dataset: dataset.NewPoints(100, 0)})
		if _, err := l.Run(t.Context()); err != nil || dropped.Count() != 2 {
			t.Errorf("got %v after %d queries that failed, want that the load goes on", err, dropped.Count())
		}
		checkExact(t, url, l, 100)
	})
}
