package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

func isVector(x server.TableIndex) bool { return x.Method == "vector" }

// refusedBy returns further reasons why IMPORT INTO refuses a table, or would harm others: jobs that
// watch or write the table, and row-level security. Reasons that the version or the user's
// privileges hide are left to IMPORT itself, which refuses before it reads anything.
func refusedBy(ctx context.Context, db server.Querier, t *server.Table) (string, error) {
	name := t.Display()
	jobs, err := watchers(ctx, db, t)
	if err != nil || len(jobs) > 0 {
		return strings.Join(jobs, "; "), err
	}
	var secured, admin bool
	err = db.QueryRow(ctx, `SELECT COALESCE(c.relrowsecurity, false), current_setting('is_superuser') = 'on'
		FROM pg_catalog.pg_class c WHERE c.oid = $1::INT8::OID`, int64(t.OID)).Scan(&secured, &admin)
	switch {
	case errors.Is(err, pgx.ErrNoRows), server.Code(err) != "":
	case err != nil:
		return "", fmt.Errorf("look for row-level security: %w", err)
	case secured && !admin:
		return fmt.Sprintf("%s has row-level security, and only an administrator may IMPORT into such a table", name), nil
	}
	return "", nil
}

// watchers describes running jobs that concern a table: changefeeds, and logical replication from
// or into it.
//
// Note: SHOW JOBS shortens descriptions in the middle on 26.1; given ids it does not.
func watchers(ctx context.Context, db server.Querier, t *server.Table) ([]string, error) {
	table := t.Name[len(t.Name)-1]
	found, err := db.Query(ctx, `SELECT job_id, job_type FROM [SHOW JOBS (SELECT job_id FROM [SHOW JOBS]
			WHERE job_type IN ('CHANGEFEED', 'LOGICAL REPLICATION', 'REPLICATION STREAM PRODUCER') AND status IN ('running', 'paused', 'pause-requested', 'pending'))]
		WHERE position($1 IN translate(description, ',', ' ') || ' ') > 0 OR position($2 IN translate(description, ',', ' ') || ' ') > 0 ORDER BY job_id LIMIT 1`,
		" "+table+" ", "."+table+" ")
	var list []string
	if err == nil {
		list, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
			var id int64
			var kind string
			if err := row.Scan(&id, &kind); err != nil {
				return "", err
			}
			if kind == "CHANGEFEED" {
				return fmt.Sprintf("changefeed job %d may watch %s and would fail when IMPORT takes the table offline", id, t.Display()), nil
			}
			return fmt.Sprintf("logical replication (job %d) may read or write %s, and the server refuses IMPORT then", id, t.Display()), nil
		})
	}
	if err != nil && server.Code(err) == "" {
		return nil, fmt.Errorf("look for changefeeds and logical replication: %w", err)
	}
	return list, nil
}
