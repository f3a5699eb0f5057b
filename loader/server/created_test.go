package server_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// A staleCatalog is a connection whose catalogue does not know of a table the first times.
type staleCatalog struct {
	*pgx.Conn
	times int
}

func (s *staleCatalog) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if s.times > 0 && strings.Contains(sql, "pg_class") {
		s.times--
		return s.Conn.QueryRow(ctx, "SELECT 1 WHERE false")
	}
	return s.Conn.QueryRow(ctx, sql, args...)
}

// TestCatalogIsStaleAfterCreate has the catalogue not know of a table that was just created.
func TestCatalogIsStaleAfterCreate(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		conn := connect(t, srv)
		exec(t, conn, "CREATE TABLE fresh (id INT8 PRIMARY KEY)")
		stale := &staleCatalog{conn, 3}
		table, err := server.DescribeCreated(context.Background(), stale, infoOf(t, conn), pgx.Identifier{"fresh"})
		if err != nil || len(table.Columns) != 1 || stale.times > 0 {
			t.Errorf("got %+v, %v; %d looks are left", table, err, stale.times)
		}
	})
}
