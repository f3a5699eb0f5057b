package importer

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"bulkload/loader/failure"
	"bulkload/loader/server"
)

// Valid returns the names of the validated foreign keys and checks of a table. IMPORT INTO
// leaves all of them unvalidated.
func Valid(ctx context.Context, db server.Querier, table pgx.Identifier) ([]string, error) {
	found, err := db.Query(ctx, `SELECT constraint_name FROM [SHOW CONSTRAINTS FROM `+table.Sanitize()+`] WHERE validated AND constraint_type IN ('CHECK', 'FOREIGN KEY') ORDER BY constraint_name`)
	if err == nil {
		var names []string
		if names, err = pgx.CollectRows(found, pgx.RowTo[string]); err == nil {
			return names, nil
		}
	}
	return nil, fmt.Errorf("read the constraints of %s: %w", server.Display(table), err)
}

// A ConstraintError says that imported rows break a constraint. The rows are in the table.
type ConstraintError struct {
	Table, Name string
	Err         error
}

// ErrorKind implements failure.Kinded.
func (e *ConstraintError) ErrorKind() failure.Kind { return failure.Unconfirmed }

func (e *ConstraintError) Error() string {
	return fmt.Sprintf("constraint %s of %s does not hold for all rows and stays unvalidated: %s", e.Name, e.Table, server.Reason(e.Err))
}

func (e *ConstraintError) Unwrap() error { return e.Err }

// validate validates those of the named constraints that are not valid yet. The error is a
// *ConstraintError, or that of a connection.
func validate(ctx context.Context, pool *pgxpool.Pool, table pgx.Identifier, names []string) error {
	now, err := Valid(ctx, pool, table)
	if err != nil {
		return err
	}
	is := map[string]bool{}
	for _, n := range now {
		is[n] = true
	}
	for _, n := range names {
		if is[n] {
			continue
		}
		err := untimed(ctx, pool, fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", table.Sanitize(), pgx.Identifier{n}.Sanitize()))
		if err != nil {
			return &ConstraintError{server.Display(table), n, err}
		}
	}
	return nil
}

// analyze asks the server for statistics of a table, unless the server gathers them by itself: it
// does so within about a minute after a job of IMPORT (pkg/sql/stats, DefaultAsyncInterval). To
// wait for ANALYZE takes about a third of the time of a load.
func analyze(ctx context.Context, pool *pgxpool.Pool, table pgx.Identifier) error {
	if automatic(ctx, pool, table) {
		return nil
	}
	return untimed(ctx, pool, "ANALYZE "+table.Sanitize())
}

// automatic reports whether the server gathers the statistics of the table by itself, as far as
// the user may know.
func automatic(ctx context.Context, pool *pgxpool.Pool, table pgx.Identifier) bool {
	var on bool
	if err := pool.QueryRow(ctx, `SHOW CLUSTER SETTING sql.stats.automatic_collection.enabled`).Scan(&on); err != nil || !on {
		return false
	}
	var create string
	err := pool.QueryRow(ctx, `SELECT create_statement FROM [SHOW CREATE TABLE `+table.Sanitize()+`]`).Scan(&create)
	return err == nil && !strings.Contains(create, "sql_stats_automatic_collection_enabled = false")
}

// untimed executes a statement without the time limit of chunks.
func untimed(ctx context.Context, pool *pgxpool.Pool, sql string) error {
	return server.WithoutTimeout(ctx, pool, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}
