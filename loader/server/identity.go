package server

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// named finds a relation of pg_class by its name and schemas.
const named = "c.relname = $1 AND n.nspname = ANY($2)"

// unlogged begins the storage of a table of which a crash empties some part.
const unlogged = "unlogged "

// postgresStorage reads the files of the table and of its partitions, as Identity.Storage.
// A table that others inherit from gets no row for them.
const postgresStorage = `(WITH RECURSIVE tree (oid) AS (
			SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid WHERE c.relkind = 'p')
		SELECT CASE WHEN bool_or(p.relpersistence = 'u' AND p.relkind <> 'p') THEN 'unlogged ' ELSE '' END ||
			CASE WHEN count(*) = 1 THEN COALESCE(min(pg_relation_filenode(p.oid)::TEXT), '')
			ELSE md5(string_agg(p.oid::TEXT || ' ' || COALESCE(pg_relation_filenode(p.oid)::TEXT, ''), ',' ORDER BY p.oid)) END
		FROM tree JOIN pg_catalog.pg_class p ON p.oid = tree.oid)`

// cockroachStorage reads the number of the primary index: TRUNCATE makes another.
const cockroachStorage = `COALESCE((SELECT x.indexrelid::INT8::TEXT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary LIMIT 1), '')`

// Identify returns the identity of the table that has that name now. The error wraps
// ErrNoTable where there is none.
func Identify(ctx context.Context, db Querier, info Info, name pgx.Identifier) (Identity, error) {
	t := &Table{}
	if len(name) == 2 {
		err := t.look(ctx, db, info, named, name[1], name[:1])
		if !errors.Is(err, pgx.ErrNoRows) {
			return t.Identity, err
		}
	}
	err := t.find(ctx, db, info, name)
	return t.Identity, err
}
