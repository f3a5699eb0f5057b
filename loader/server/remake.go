package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Remake holds the statements that recreate a secondary index with all that belongs to it:
// comments, statistics targets, tablespace, CLUSTER and REPLICA IDENTITY.
type Remake struct {
	Name string `json:"-"`
	Drop string `json:"-"`
	// Tablespace, on PostgreSQL, is the tablespace of the index. Empty means the database's
	// default, whatever default_tablespace says.
	Tablespace string `json:"tablespace,omitempty"`
	Create     string `json:"create"`
	// Then holds statements that restore what belongs to the index. Repeating them changes
	// nothing.
	Then []string `json:"then,omitempty"`
	// Identity is set if the index is the table's replica identity.
	Identity bool `json:"identity,omitempty"`
	// Refusal is the reason why the index cannot be recreated as it is; empty if it can be.
	Refusal string `json:"-"`
}

// Remakes returns a Remake for each secondary index of t. It writes nothing.
func Remakes(ctx context.Context, pool *pgxpool.Pool, info Info, t *Table) ([]Remake, error) {
	var list []Remake
	for _, x := range t.Indexes {
		if x.Primary {
			continue
		}
		r := Remake{Name: x.Name, Create: x.Create, Drop: x.Drop}
		if x.Create == "" || x.Drop == "" {
			r.Refusal = "loader cannot read its CREATE INDEX statement"
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		return nil, nil
	}
	read := t.cockroachRemake
	if info.Product == PostgreSQL {
		read = t.postgresRemake
	}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for i := range list {
			if list[i].Refusal != "" {
				continue
			}
			if err := read(ctx, tx, &list[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what belongs to the indexes of %s: %w", t.Display(), err)
	}
	return list, nil
}

// qualified makes PostgreSQL print names with their schema, unless they are in pg_catalog, and
// times with their offset, so that a statement means the same in every session.
const qualified = `SELECT set_config('search_path', 'pg_catalog', true), set_config('DateStyle', 'ISO', true), set_config('extra_float_digits', '3', true)`

// postgresRemake reads the objects that belong to an index from PostgreSQL's catalog. A
// dependent object of an unknown kind is a reason to leave the index alone.
func (t *Table) postgresRemake(ctx context.Context, tx pgx.Tx, r *Remake) error {
	if _, err := tx.Exec(ctx, qualified); err != nil {
		return err
	}
	var def, constraint, tableSpace string
	var may, usable, parts, quiet bool
	var members, dependents []string
	err := tx.QueryRow(ctx, `SELECT pg_get_indexdef(c.oid), COALESCE(pg_get_constraintdef(k.oid), ''), COALESCE(s.spcname, ''),
			COALESCE(has_tablespace_privilege(s.oid, 'CREATE'), true), x.indisvalid AND x.indisready AND x.indislive, c.relkind = 'I' OR c.relispartition, x.indisreplident,
			NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O'),
			ARRAY(SELECT e.extname::TEXT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_class'::REGCLASS AND d.objid = c.oid AND d.refclassid = 'pg_extension'::REGCLASS AND d.deptype = 'e'),
			ARRAY(SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
				WHERE (d.refclassid = 'pg_class'::REGCLASS AND d.refobjid = c.oid OR d.refclassid = 'pg_constraint'::REGCLASS AND d.refobjid = k.oid) AND d.deptype <> 'i'),
			array_remove(ARRAY[
				CASE WHEN k.oid IS NOT NULL AND c.reloptions IS NOT NULL THEN format('ALTER INDEX %1$s SET (%2$s)', i.name,
					(SELECT string_agg(format('%I = %L', o.option_name, o.option_value), ', ') FROM pg_options_to_table(c.reloptions) o)) END]
				|| ARRAY(SELECT format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', i.name, a.attnum, a.attstattarget) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum)
				|| ARRAY(SELECT format('ALTER INDEX %s DEPENDS ON EXTENSION %I', i.name, e.extname) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
					WHERE d.classid = 'pg_class'::REGCLASS AND d.objid = c.oid AND d.refclassid = 'pg_extension'::REGCLASS AND d.deptype = 'x' ORDER BY e.extname)
				|| ARRAY[
				'COMMENT ON INDEX ' || i.name || ' IS ' || quote_literal(obj_description(c.oid, 'pg_class')),
				CASE WHEN k.oid IS NOT NULL THEN format('COMMENT ON CONSTRAINT %I ON %s IS ', k.conname, i.relation) || quote_literal(obj_description(k.oid, 'pg_constraint')) END,
				CASE WHEN x.indisclustered THEN format('ALTER TABLE %s CLUSTER ON %I', i.relation, c.relname) END,
				CASE WHEN x.indisreplident THEN format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', i.relation, c.relname) END], NULL)
		FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
			LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x'),
			LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name, x.indrelid::REGCLASS::TEXT AS relation FROM pg_namespace n WHERE n.oid = c.relnamespace) i
		WHERE x.indrelid = $1::INT8::OID AND c.relname = $2`, int64(t.OID), r.Name).
		Scan(&def, &constraint, &tableSpace, &may, &usable, &parts, &r.Identity, &quiet, &members, &dependents, &r.Then)
	if err != nil {
		return err
	}
	r.Tablespace = tableSpace
	if r.Create = def; constraint != "" {
		r.Create = fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", t.Name.Sanitize(), pgx.Identifier{r.Name}.Sanitize(), constraint)
	}
	switch {
	case !usable:
		r.Refusal = "it is invalid; REINDEX or drop it first"
	case parts:
		r.Refusal = "it belongs to a partitioned index, or indexes of partitions belong to it"
	case !quiet:
		r.Refusal = "a trigger of its constraint is not enabled as usual"
	case !may:
		r.Refusal = fmt.Sprintf("it lies in tablespace %s, where you may not create it", tableSpace)
	case len(members) > 0:
		r.Refusal = "it belongs to extension " + members[0]
	case len(dependents) > 0:
		r.Refusal = dependents[0] + " depends on it"
	}
	return nil
}

// cockroachRemake reads the objects that belong to an index of CockroachDB.
func (t *Table) cockroachRemake(ctx context.Context, tx pgx.Tx, r *Remake) error {
	name := t.Name.Sanitize() + "@" + pgx.Identifier{r.Name}.Sanitize()
	var comment *string
	err := tx.QueryRow(ctx, `SELECT comment FROM [SHOW INDEXES FROM `+t.Name.Sanitize()+` WITH COMMENT] WHERE index_name = $1 LIMIT 1`, r.Name).Scan(&comment)
	if err != nil {
		return err
	}
	if comment != nil {
		r.Then = append(r.Then, "COMMENT ON INDEX "+name+" IS "+QuoteLiteral(*comment))
	}
	comments, err := tx.Query(ctx, `SELECT d.description FROM pg_catalog.pg_description d JOIN pg_catalog.pg_constraint k ON k.oid = d.objoid
		WHERE k.conrelid = $1::INT8::OID AND k.conname = $2 AND d.classoid = 'pg_catalog.pg_constraint'::REGCLASS`, int64(t.OID), r.Name)
	if err != nil {
		return err
	}
	texts, err := pgx.CollectRows(comments, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, text := range texts {
		r.Then = append(r.Then, "COMMENT ON CONSTRAINT "+pgx.Identifier{r.Name}.Sanitize()+" ON "+t.Name.Sanitize()+" IS "+QuoteLiteral(text))
	}
	var zone string
	if err := tx.QueryRow(ctx, `SELECT target FROM [SHOW ZONE CONFIGURATION FROM INDEX `+name+`]`).Scan(&zone); err != nil {
		return err
	}
	// CASCADE drops a view or function that names the index. Without it, such an object
	// prevents the drop.
	var view *string
	id := int64(-1)
	for _, x := range t.Indexes {
		if x.Name == r.Name && x.ID > 0 {
			id = x.ID
		}
	}
	err = tx.QueryRow(ctx, `SELECT (SELECT min(kind || name) FROM (
			SELECT 'view ' AS kind, viewname::TEXT AS name, definition AS text FROM pg_catalog.pg_views
			UNION ALL SELECT 'function ', proname::TEXT, prosrc FROM pg_catalog.pg_proc WHERE prosrc IS NOT NULL) AS o
		WHERE strpos(text, '@' || $1) > 0 OR strpos(text, '@[' || $2 || ']') > 0 OR strpos(text, '=' || $1 || '}') > 0)`,
		Display(pgx.Identifier{r.Name}), fmt.Sprint(id)).Scan(&view)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(zone, "INDEX") || strings.HasPrefix(zone, "PARTITION"):
		r.Refusal = "it has a zone configuration"
	case strings.Contains(r.Create, "PARTITION BY"):
		r.Refusal = "it is partitioned"
	case view != nil:
		r.Refusal = *view + " names it"
	}
	return nil
}
