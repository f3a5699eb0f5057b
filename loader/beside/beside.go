// Package beside makes an empty table like another one and, when that has its rows, puts it in
// the other's place. It is for PostgreSQL, where both are steps of one transaction. It copies what
// can be copied and compares the catalogue's description of the new table with the old one's:
// a table that would not be as before is not replaced. The package loads no rows.
package beside

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/server"
)

// lockTimeout bounds one wait for the table's lock. Other sessions queue behind such a wait, so
// that a long one would stop them all; the transaction is retried.
const lockTimeout = "3s"

// Obstacle returns why a table cannot be replaced, if the description that Make compares does not
// show it; empty if there is no such reason. It writes nothing.
func Obstacle(ctx context.Context, db server.Querier, t *server.Table) (why string, err error) {
	switch {
	case t.Kind != "r":
		return "it is partitioned", nil
	case t.Partition:
		return "it is a partition", nil
	case t.Unlogged:
		return "it is UNLOGGED", nil
	case t.Temporary:
		return "it is temporary", nil
	case t.RowSecurity:
		return "it has row-level security", nil
	}
	return replicated(ctx, db, t.Name)
}

// replicated says which replication of a table's rows would not follow it, if any. A publication of
// all tables is not in the table's description.
func replicated(ctx context.Context, db server.Querier, table pgx.Identifier) (why string, err error) {
	var published *string
	var subscribed bool
	err = db.QueryRow(ctx, `SELECT (SELECT min(p.pubname::TEXT) FROM pg_catalog.pg_publication_tables p JOIN pg_catalog.pg_class c ON c.relname = p.tablename
				JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = p.schemaname WHERE c.oid = $1::TEXT::REGCLASS),
			EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel WHERE srrelid = $1::TEXT::REGCLASS)`, table.Sanitize()).Scan(&published, &subscribed)
	switch {
	case err != nil:
		return "", server.Failed("read the publications of "+server.Display(table), err)
	case published != nil:
		return fmt.Sprintf("it is in publication %s, whose subscribers would keep the old rows", server.Display(pgx.Identifier{*published})), nil
	case subscribed:
		return "it is filled by a subscription", nil
	}
	return "", nil
}

// Make creates the empty table beside in tx, like target, with its owner, privileges and settings.
// It then rehearses Swap and rolls the rehearsal back. lost, when not empty, describes a property
// that Swap could not keep.
func Make(ctx context.Context, tx pgx.Tx, target, beside pgx.Identifier) (lost string, err error) {
	if err := lock(ctx, tx, target); err != nil {
		return "", err
	}
	var create string
	if err := tx.QueryRow(ctx, createLike, target.Sanitize(), beside.Sanitize()).Scan(&create); err != nil {
		return "", err
	}
	// The tablespace of the database is the default of a table without one.
	if _, err := tx.Exec(ctx, "SET LOCAL default_tablespace = ''"); err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, create); err != nil {
		return "", err
	}
	if err := execEach(ctx, tx, copyRest, target, beside); err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, "SAVEPOINT rehearsal"); err != nil {
		return "", err
	}
	if lost, err = Swap(ctx, tx, target, beside); err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, "ROLLBACK TO SAVEPOINT rehearsal")
	return lost, err
}

// Swap drops target and gives its name, its sequences and the names of its indexes to beside. If
// lost is not empty, it describes a property that would not be as before, and tx must be rolled
// back.
func Swap(ctx context.Context, tx pgx.Tx, target, beside pgx.Identifier) (lost string, err error) {
	if err := lock(ctx, tx, target, beside); err != nil {
		return "", err
	}
	if lost, err = replicated(ctx, tx, target); err != nil || lost != "" {
		return lost, err
	}
	was, err := describe(ctx, tx, target)
	if err != nil {
		return "", err
	}
	var rename []string
	if rename, err = statements(ctx, tx, renames, target, beside); err != nil {
		return "", err
	}
	if err := execEach(ctx, tx, moveSequences, target, beside); err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, "DROP TABLE "+target.Sanitize())
	if why := dependents(err); why != "" {
		return why, nil
	}
	if err != nil {
		return "", err
	}
	for _, sql := range append([]string{"ALTER TABLE " + beside.Sanitize() + " RENAME TO " + target[len(target)-1:].Sanitize()}, rename...) {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	now, err := describe(ctx, tx, target)
	if err != nil {
		return "", err
	}
	return differences(was, now), nil
}

// Drop drops the table beside of a load that was given up, if it is there.
func Drop(ctx context.Context, tx pgx.Tx, beside pgx.Identifier) error {
	_, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+beside.Sanitize())
	return err
}

// lock keeps others from the tables until tx ends.
func lock(ctx context.Context, tx pgx.Tx, tables ...pgx.Identifier) error {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Sanitize()
	}
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS EXCLUSIVE MODE")
	return err
}

// statements returns the statements that a query of two tables composes.
func statements(ctx context.Context, tx pgx.Tx, query string, target, beside pgx.Identifier) ([]string, error) {
	found, err := tx.Query(ctx, query, target.Sanitize(), beside.Sanitize())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowTo[string])
}

// execEach executes the statements that a query of two tables composes.
func execEach(ctx context.Context, tx pgx.Tx, query string, target, beside pgx.Identifier) error {
	list, err := statements(ctx, tx, query, target, beside)
	if err != nil {
		return err
	}
	for _, sql := range list {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// dependents returns the objects that depend on the table, from the error of DROP TABLE.
func dependents(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != pgerrcode.DependentObjectsStillExist {
		return ""
	}
	list := strings.Split(strings.TrimSpace(pg.Detail), "\n")
	return shorten(list)
}

// maxShown is the number of objects that a message names.
const maxShown = 3

func shorten(list []string) string {
	if n := len(list) - maxShown; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:maxShown], ", "), n)
	}
	return strings.Join(list, ", ")
}

// A description holds the catalogue's properties of a table and of each object that belongs to it.
type description map[string]map[string]any

func describe(ctx context.Context, tx pgx.Tx, table pgx.Identifier) (description, error) {
	found, err := tx.Query(ctx, describeTable, table.Sanitize())
	if err != nil {
		return nil, err
	}
	d := description{}
	var what string
	var properties map[string]any
	_, err = pgx.ForEachRow(found, []any{&what, &properties}, func() error {
		if d[what] == nil {
			d[what] = map[string]any{}
		}
		maps.Copy(d[what], properties)
		properties = nil
		return nil
	})
	return d, err
}

// differences names objects and properties that are lost, differ, or were added.
func differences(was, now description) string {
	var lost, other, added []string
	for what, properties := range was {
		there := now[what]
		if there == nil {
			lost = append(lost, what+" would be lost")
			continue
		}
		for k, v := range properties {
			if fmt.Sprint(v) != fmt.Sprint(there[k]) {
				other = append(other, fmt.Sprintf("%s of %s would differ", k, what))
			}
		}
	}
	for what := range now {
		if was[what] == nil {
			added = append(added, what+" would be added")
		}
	}
	list := slices.Concat(slices.Sorted(slices.Values(lost)), slices.Sorted(slices.Values(other)))
	if len(list) == 0 { // an added object is mostly a lost one under another name
		list = slices.Sorted(slices.Values(added))
	}
	return shorten(list)
}
