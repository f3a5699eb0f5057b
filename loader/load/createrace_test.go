package load_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestTablesMadeByTwoAtOnce has another session make the table, and the registry, that a
// load has begun to make: it waits for that session, and goes on with what is there then.
func TestTablesMadeByTwoAtOnce(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	ctx := context.Background()
	for name, test := range map[string]struct {
		ddl string
		req load.Request
	}{
		"for a file":   {"CREATE TABLE made (id BIGINT, s TEXT)", fileRequest("made", write(t, "x.csv", "id,s\n1,a\n"))},
		"for points":   {"CREATE TABLE points (id BIGINT PRIMARY KEY, x FLOAT8, y FLOAT8, z FLOAT8)", load.Request{Dataset: dataset.NewPoints(1, 0)}},
		"the registry": {"CREATE SCHEMA loader", load.Request{Dataset: dataset.NewPoints(1, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			url := s.NewDatabase(t)
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			if _, err := conn.Exec(ctx, "BEGIN; "+test.ddl); err != nil {
				t.Fatal(err)
			}
			if f, ok := test.req.Dataset.(*files.Dataset); ok {
				f.CreateTable = true
			}
			srv := loadertest.Open(t, url)
			opened := make(chan error, 1)
			go func() {
				l, err := load.New(ctx, srv, test.req)
				if err == nil {
					_, err = l.Run(ctx)
					l.Close()
				}
				opened <- err
			}()
			loadertest.Eventually(t, "the load waits for the other session", func() bool {
				return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'CREATE%')")
			})
			if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
				t.Fatal(err)
			}
			if err := <-opened; err != nil {
				t.Error(err)
			}
		})
	}
}
