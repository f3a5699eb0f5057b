package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/importer/serve"
	"bulkload/loader/server"
)

// Refuses returns in one line why IMPORT INTO cannot, or should not, load a table; empty if no
// reason is known. It changes nothing.
func Refuses(ctx context.Context, db server.Querier, info server.Info, t *server.Table) (string, error) {
	name := t.Display()
	switch {
	case info.Product != server.CockroachDB:
		return "PostgreSQL has no IMPORT", nil
	case info.OSS:
		return "this build of CockroachDB has no IMPORT INTO: it is without the licensed packages", nil
	case t.Temporary:
		return fmt.Sprintf("%s is a temporary table, which other sessions cannot reach", name), nil
	case slices.ContainsFunc(t.Indexes, isVector):
		return fmt.Sprintf("%s has a vector index, which IMPORT does not fill", name), nil
	case len(t.ReferencedBy) > 0:
		return fmt.Sprintf("%s is referenced by %s, whose rows cannot be written while IMPORT keeps the table offline", name, t.ReferencedBy[0].Table), nil
	}
	var enabled bool
	err := db.QueryRow(ctx, `SHOW CLUSTER SETTING feature.import.enabled`).Scan(&enabled)
	switch {
	case err == nil && !enabled:
		return "an administrator has switched IMPORT off (feature.import.enabled)", nil
	case err != nil && server.Code(err) == "": // a missing privilege or setting does not matter
		return "", fmt.Errorf("look whether IMPORT is allowed: %w", err)
	}
	return refusedBy(ctx, db, t)
}

// Nodes returns the number of nodes of the cluster. ok is false if the server does not tell it: to
// a user without the privilege, and from 26.1 on to anybody.
func Nodes(ctx context.Context, db server.Querier) (n int, ok bool) {
	if err := db.QueryRow(ctx, `SELECT count(*) FROM crdb_internal.gossip_nodes`).Scan(&n); err != nil || n < 1 {
		return 0, false
	}
	return n, true
}

// UncountedStreams is the number of streams if the nodes cannot be counted. More streams than nodes
// cost little: each is one more request to the loader, and one more reader of the server. Fewer
// leave nodes without work.
const UncountedStreams = 4

// probeTimeout is how long the database may take to reach the loader's HTTP server. The
// database retries by itself.
const probeTimeout = 5 * time.Second

// ErrUnreachable: the database did not request the probe.
var ErrUnreachable = errors.New("the database cannot reach this command")

// A PrivilegeError says that the user lacks the privilege to let the server read from URLs.
type PrivilegeError struct{ Err error }

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("the user may not let the database read from http:// addresses: %s", server.Reason(e.Err))
}

func (e *PrivilegeError) Unwrap() error { return e.Err }

// Probe lets the database read from the file server before a job depends on it, and changes
// nothing in the database. The error is a *PrivilegeError, wraps ErrUnreachable, or is that of
// a connection that broke before the database answered.
//
// Note: on every version SHOW BACKUP reads a URL and does nothing else. The expected answer is that
// there is no backup. From 25.1 on the statement names a backup in a collection, and reads below
// the URL; 21.1 does not know that form.
func Probe(ctx context.Context, s *serve.Server, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	url, asked := s.Probe("probe")
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d", probeTimeout.Milliseconds())); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SHOW BACKUP "+server.QuoteLiteral(url), pgx.QueryExecModeSimpleProtocol)
	if server.Code(err) == pgerrcode.SyntaxError {
		_, err = conn.Exec(ctx, "SHOW BACKUP LATEST IN "+server.QuoteLiteral(url), pgx.QueryExecModeSimpleProtocol)
	}
	select {
	case <-asked:
		return nil
	default:
	}
	var pg *pgconn.PgError
	switch {
	case server.Code(err) == pgerrcode.InsufficientPrivilege:
		return &PrivilegeError{err}
	case errors.As(err, &pg) && pg.Code != pgerrcode.QueryCanceled:
		return fmt.Errorf("%w at %s: %s", ErrUnreachable, s.Addr(), RedactAll(server.Message(err)))
	case pg == nil && err != nil && ctx.Err() == nil:
		return err
	}
	return fmt.Errorf("%w at %s within %s", ErrUnreachable, s.Addr(), probeTimeout)
}
