package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/importer/serve"
	"bulkload/loader/server"
)

// Refuses returns why IMPORT INTO cannot, or should not, take a table, in one line; an
// empty text says that nothing is known against it. It reads only.
func Refuses(ctx context.Context, db server.Querier, info server.Info, t *server.Table) (string, error) {
	name := t.Display()
	switch {
	case info.Product != server.CockroachDB:
		return "PostgreSQL has no IMPORT", nil
	case info.OSS:
		return "this build of CockroachDB has no IMPORT INTO: it is without the licensed packages", nil
	case t.Temporary:
		return fmt.Sprintf("%s is a temporary table, which other sessions cannot reach", name), nil
	case len(t.ReferencedBy) > 0:
		return fmt.Sprintf("%s is referenced by %s, whose rows could not be written while IMPORT has the table offline", name, t.ReferencedBy[0].Table), nil
	}
	var enabled bool
	err := db.QueryRow(ctx, `SHOW CLUSTER SETTING feature.import.enabled`).Scan(&enabled)
	switch {
	case err == nil && !enabled:
		return "an administrator has switched IMPORT off (feature.import.enabled)", nil
	case err != nil && server.Code(err) == "": // a privilege, or a version without the setting, does not matter
		return "", fmt.Errorf("look whether IMPORT is allowed: %w", err)
	}
	var feed int64
	err = db.QueryRow(ctx, `SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'CHANGEFEED' AND status IN ('running', 'paused', 'pause-requested', 'pending')
		AND (position($1 IN description || ' ') > 0 OR position($2 IN description || ' ') > 0) LIMIT 1`,
		" "+t.Name[len(t.Name)-1]+" ", "."+t.Name[len(t.Name)-1]+" ").Scan(&feed)
	switch {
	case err == nil:
		return fmt.Sprintf("changefeed job %d may watch %s, and would fail when IMPORT takes it offline", feed, name), nil
	case !errors.Is(err, pgx.ErrNoRows) && server.Code(err) == "":
		return "", fmt.Errorf("look for changefeeds: %w", err)
	}
	return "", nil
}

// Nodes returns the number of nodes of the cluster; 1 where the user may not know it.
func Nodes(ctx context.Context, db server.Querier) int {
	var n int
	if err := db.QueryRow(ctx, `SELECT count(*) FROM crdb_internal.gossip_nodes`).Scan(&n); err != nil || n < 1 {
		return 1
	}
	return n
}

// probeTimeout is how long the database may take to reach the loader's HTTP server. It
// tries again and again by itself.
const probeTimeout = 5 * time.Second

// ErrUnreachable: the database did not ask for the probe.
var ErrUnreachable = errors.New("the database cannot reach this command")

// A PrivilegeError says that the user may not have the server read from URLs.
type PrivilegeError struct{ Err error }

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("the user may not have the database read from http:// addresses: %s", server.Reason(e.Err))
}

func (e *PrivilegeError) Unwrap() error { return e.Err }

// Probe lets the database read from the server before a job depends on it, and changes
// nothing there. The error is a *PrivilegeError, wraps ErrUnreachable, or is that of a
// connection which broke before the database had said anything.
//
// Note: SHOW BACKUP is the statement that reads a URL and does nothing else, on every
// version; that there is no backup is the answer that is hoped for.
func Probe(ctx context.Context, s *serve.Server, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	url, asked := s.Probe("probe")
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", probeTimeout.Milliseconds())); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SHOW BACKUP "+server.QuoteLiteral(url), pgx.QueryExecModeSimpleProtocol)
	select {
	case <-asked:
		return nil
	default:
	}
	var pg *pgconn.PgError
	switch {
	case server.Code(err) == "42501":
		return &PrivilegeError{err}
	case errors.As(err, &pg) && pg.Code != "57014":
		return fmt.Errorf("%w at %s: %s", ErrUnreachable, s.Addr(), RedactAll(server.Message(err)))
	case pg == nil && err != nil && ctx.Err() == nil:
		return err
	}
	return fmt.Errorf("%w at %s within %s", ErrUnreachable, s.Addr(), probeTimeout)
}
