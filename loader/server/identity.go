package server

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// named selects a relation of pg_class by name and schemas.
const named = "c.relname = $1 AND n.nspname::TEXT = ANY(" + inSchemas + ")"

// inSchemas are the schemas to look in: $2, or those of the search path.
const inSchemas = "COALESCE($2::TEXT[], current_schemas(true)::TEXT[])"

// unlogged prefixes the storage of a table that a crash empties in whole or in part.
const unlogged = "unlogged "

// postgresStorage computes Identity.Storage from the files of the table and its partitions. It
// ignores tables that inherit from a plain table.
const postgresStorage = `(WITH RECURSIVE tree (oid) AS (
			SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid WHERE c.relkind = 'p')
		SELECT CASE WHEN bool_or(p.relpersistence = 'u' AND p.relkind <> 'p') THEN 'unlogged ' ELSE '' END ||
			CASE WHEN count(*) = 1 THEN COALESCE(min(pg_relation_filenode(p.oid)::TEXT), '')
			ELSE md5(string_agg(p.oid::TEXT || ' ' || COALESCE(pg_relation_filenode(p.oid)::TEXT, ''), ',' ORDER BY p.oid)) END
		FROM tree JOIN pg_catalog.pg_class p ON p.oid = tree.oid)`

// cockroachStorage reads the id of the primary index: TRUNCATE makes a new one.
const cockroachStorage = `COALESCE((SELECT x.indexrelid::INT8::TEXT FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisprimary LIMIT 1), '')`

// Identify returns the identity of the table that has this name now. The error wraps
// ErrNoTable if there is none.
func Identify(ctx context.Context, db Querier, info Info, name pgx.Identifier) (Identity, error) {
	t := &Table{}
	if len(name) == 2 {
		err := t.read(ctx, db, info, named, name[1], name[:1])
		if !errors.Is(err, pgx.ErrNoRows) {
			return t.Identity, err
		}
	}
	err := t.find(ctx, db, info, name)
	return t.Identity, err
}

// Timeline identifies the history of a PostgreSQL that takes writes: the promotion of a standby
// begins another one. It is empty where the server does not tell.
func Timeline(ctx context.Context, db Querier) string {
	var name string
	if err := db.QueryRow(ctx, "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn())").Scan(&name); err != nil {
		return ""
	}
	return name[:min(len(name), timelineDigits)]
}

// timelineDigits is the part of the name of a WAL file that is its timeline, in hexadecimal.
const timelineDigits = 8
