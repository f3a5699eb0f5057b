package server

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// postgresColumns reads the columns from pg_attribute.
func (t *Table) postgresColumns(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::INT8, a.attnotnull,
			COALESCE(pg_get_expr(d.adbin, d.adrelid), ''), a.attgenerated <> '', a.attidentity::TEXT,
			(SELECT count(*) FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid),
			(WITH RECURSIVE base (oid, mod) AS (
				SELECT a.atttypid, a.atttypmod
				UNION ALL SELECT t.typbasetype, t.typtypmod FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype = 'd')
			SELECT format_type(base.oid, base.mod) FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype <> 'd'),
			COALESCE(CASE WHEN k.collname <> 'default' THEN quote_ident(n.nspname) || '.' || quote_ident(k.collname) END, ''), COALESCE(NOT k.collisdeterministic, false)
		FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation LEFT JOIN pg_catalog.pg_namespace n ON n.oid = k.collnamespace
		WHERE a.attrelid = $1::INT8::OID AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, int64(t.OID))
	if err != nil {
		return err
	}
	t.Columns, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Column, error) {
		var c Column
		var oid int64
		var identity string
		err := row.Scan(&c.Name, &c.Type, &oid, &c.NotNull, &c.Expr, &c.Generated, &identity, &c.Labels, &c.Base, &c.Collation, &c.Nondeterministic)
		c.SQLType, c.TypeOID = c.Type, uint32(oid)
		c.Identity, c.Always = identity != "", identity == "a"
		c.Default = c.Expr != "" || c.Identity || c.Generated
		return c, err
	})
	return err
}

// postgresIndexes reads the indexes and the statements that recreate them.
func (t *Table) postgresIndexes(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT c.relname, x.indisprimary, x.indisunique, COALESCE(k.condeferrable, false), k.conname IS NOT NULL,
			COALESCE(pg_get_constraintdef(k.oid), ''), pg_get_indexdef(c.oid), x.indpred IS NOT NULL, COALESCE(pg_get_expr(x.indpred, x.indrelid), ''), m.amname, x.indnkeyatts,
			ARRAY(SELECT COALESCE(a.attname, '') FROM unnest(x.indkey) WITH ORDINALITY AS u(n, i)
				LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = u.n AND u.n > 0 ORDER BY u.i)::TEXT[],
			ARRAY(SELECT pg_get_indexdef(c.oid, u.i::INT, true) FROM unnest(x.indkey) WITH ORDINALITY AS u(n, i) ORDER BY u.i),
			ARRAY(SELECT o & 1 = 1 FROM unnest(x.indoption) WITH ORDINALITY AS u(o, i) ORDER BY u.i)
		FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
			LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
		WHERE x.indrelid = $1::INT8::OID ORDER BY x.indisprimary DESC, c.relname`, int64(t.OID))
	if err != nil {
		return err
	}
	t.Indexes, err = pgx.CollectRows(found, t.postgresIndex)
	for _, x := range t.Indexes {
		if x.Primary {
			t.Primary, t.Deferrable = x.Columns, x.Deferrable
		}
	}
	return err
}

func (t *Table) postgresIndex(row pgx.CollectableRow) (TableIndex, error) {
	var x TableIndex
	var constraint, create string
	var keys int
	var names, exprs []string
	err := row.Scan(&x.Name, &x.Primary, &x.Unique, &x.Deferrable, &x.Constraint, &constraint, &create, &x.Where, &x.Condition, &x.Method, &keys, &names, &exprs, &x.Desc)
	if err != nil {
		return x, err
	}
	x.Columns, x.Storing = names[:keys], names[keys:]
	x.Exprs = make([]string, keys)
	for i, c := range x.Columns {
		if c == "" {
			x.Exprs[i] = exprs[i]
		}
	}
	x.Desc = x.Desc[:keys]
	if x.Primary {
		return x, nil
	}
	x.Create, x.Drop = create, "DROP INDEX "+pgx.Identifier{t.Name[0], x.Name}.Sanitize()
	if x.Constraint {
		name := pgx.Identifier{x.Name}.Sanitize()
		x.Create = fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", t.Name.Sanitize(), name, constraint)
		x.Drop = fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", t.Name.Sanitize(), name)
	}
	return x, nil
}
