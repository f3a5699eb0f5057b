package server_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

// connect returns a connection to a new database of the server, closed at the end of
// the test.
func connect(t *testing.T, s loadertest.Server) *pgx.Conn {
	t.Helper()
	return loadertest.Connect(t, s.NewDatabase(t))
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// describe describes a table as a user names it.
func describe(t *testing.T, conn *pgx.Conn, name string) *server.Table {
	t.Helper()
	ctx := context.Background()
	info, err := server.ReadInfo(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	id, err := server.ParseTable(name)
	if err != nil {
		t.Fatal(err)
	}
	table, err := server.Describe(ctx, conn, info, id)
	if err != nil {
		t.Fatal(err)
	}
	return table
}
