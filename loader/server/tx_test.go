package server_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestTransactionRestarts has the first statement of a transaction fail twice with an error that
// asks for a restart. The statement is prepared by then, and pgx prepares anew what failed.
func TestTransactionRestarts(t *testing.T) {
	ctx := context.Background()
	s := loadertest.CockroachServer(t)
	const insert = "INSERT INTO restarts VALUES ($1)"
	p := loadertest.NewProxy(t, s.NewDatabase(t),
		&loadertest.Fault{When: loadertest.Match{Kind: loadertest.MsgStatement, SQL: "^INSERT INTO restarts"}, Nth: 2, Times: 2, Do: loadertest.Inject, Code: "40001"})
	defer p.Close()
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TABLE restarts (n INT8 PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		calls := 0
		err := server.Transact(ctx, s.Product, conn, 3, func(tx pgx.Tx) error {
			calls++
			_, err := tx.Exec(ctx, insert, n)
			return err
		})
		if want := 1 + 2*n; err != nil || calls != want {
			t.Errorf("transaction %d: %d calls, want %d: %v", n, calls, want, err)
		}
	}
	var rows int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM restarts").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d rows, want 2: %v", rows, err)
	}
}
