package anytable

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// A catalogue is what the server says of a table beyond its description.
type catalogue struct {
	table  *server.Table
	info   server.Info
	labels map[string][]string // of columns of ENUM types
	checks []check
	keys   []foreignKey
	// ranges are the conditions of the partitions, one a partition; nil: every row has one.
	ranges []string
	// excluded are the exclusion constraints, by name, with their columns.
	excluded map[string][]string
	// referring are the types of other tables' columns that refer to a column: its values must fit
	// them too.
	referring map[string][]string
}

// A check is a CHECK constraint of the table, or of a domain.
type check struct {
	name string
	expr string
	// column is that of a domain's constraint, whose expr says VALUE.
	column string
}

// A foreignKey is a foreign key of the table.
type foreignKey struct {
	name       string
	table      pgx.Identifier
	oid        int64
	columns    []string
	references []string
	deferrable bool
}

// readCatalogue reads the constraints of a table.
func readCatalogue(ctx context.Context, db server.Querier, info server.Info, t *server.Table) (*catalogue, error) {
	c := &catalogue{table: t, info: info, labels: map[string][]string{}, excluded: map[string][]string{}, referring: map[string][]string{}}
	for _, step := range []struct {
		what string
		read func(context.Context, server.Querier) error
	}{
		{"enum types", c.readLabels},
		{"CHECK constraints", c.readChecks},
		{"domains", c.readDomains},
		{"foreign keys", c.readForeignKeys},
		{"referring columns", c.readReferring},
		{"partitions", c.readPartitions},
		{"exclusion constraints", c.readExclusions},
	} {
		if err := step.read(ctx, db); err != nil {
			return nil, fmt.Errorf("describe the %s of %s: %w", step.what, t.Display(), err)
		}
	}
	return c, nil
}

// readLabels reads the labels of ENUM types, also below domains and arrays.
func (c *catalogue) readLabels(ctx context.Context, db server.Querier) error {
	query := `SELECT a.attname::TEXT, e.enumlabel::TEXT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			JOIN pg_catalog.pg_enum e ON e.enumtypid IN (t.oid, t.typelem)
		WHERE a.attrelid = $1::INT8::OID AND a.attnum > 0 ORDER BY a.attname, e.enumsortorder`
	if c.info.Product == server.PostgreSQL {
		query = `WITH RECURSIVE base (name, oid) AS (
				SELECT attname, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::INT8::OID AND attnum > 0 AND NOT attisdropped
				UNION SELECT base.name, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
					FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype = 'd' OR t.typelem <> 0)
			SELECT base.name::TEXT, e.enumlabel::TEXT FROM base JOIN pg_catalog.pg_enum e ON e.enumtypid = base.oid ORDER BY base.name, e.enumsortorder`
	}
	found, err := db.Query(ctx, query, int64(c.table.OID))
	if err != nil {
		return err
	}
	var column, label string
	_, err = pgx.ForEachRow(found, []any{&column, &label}, func() error {
		c.labels[column] = append(c.labels[column], label)
		return nil
	})
	return err
}

func (c *catalogue) readChecks(ctx context.Context, db server.Querier) error {
	found, err := db.Query(ctx, `SELECT conname::TEXT, pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
		WHERE conrelid = $1::INT8::OID AND contype = 'c' ORDER BY conname`, int64(c.table.OID))
	if err != nil {
		return err
	}
	var name, text string
	_, err = pgx.ForEachRow(found, []any{&name, &text}, func() error {
		c.checks = append(c.checks, check{name: name, expr: checkExpr(text)})
		return nil
	})
	return err
}

// checkExpr returns the condition of a definition: CHECK ((a > 0)) NOT VALID.
func checkExpr(text string) string {
	text = strings.TrimSpace(text)
	if at := strings.IndexByte(text, '('); at >= 0 {
		if end := strings.LastIndexByte(text, ')'); end > at {
			return text[at+1 : end]
		}
	}
	return text
}

// readDomains reads the CHECK constraints of the columns' domains.
func (c *catalogue) readDomains(ctx context.Context, db server.Querier) error {
	if c.info.Product != server.PostgreSQL {
		return nil
	}
	found, err := db.Query(ctx, `WITH RECURSIVE base (name, oid) AS (
			SELECT attname, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::INT8::OID AND attnum > 0 AND NOT attisdropped
			UNION SELECT base.name, t.typbasetype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype = 'd')
		SELECT base.name::TEXT, k.conname::TEXT, pg_get_constraintdef(k.oid) FROM base JOIN pg_catalog.pg_constraint k ON k.contypid = base.oid AND k.contype = 'c'
		ORDER BY base.name, k.conname`, int64(c.table.OID))
	if err != nil {
		return err
	}
	var column, name, text string
	_, err = pgx.ForEachRow(found, []any{&column, &name, &text}, func() error {
		c.checks = append(c.checks, check{name: name, expr: checkExpr(text), column: column})
		return nil
	})
	if err != nil {
		return err
	}
	// A domain may be NOT NULL.
	found, err = db.Query(ctx, `WITH RECURSIVE base (name, oid) AS (
			SELECT attname, atttypid FROM pg_catalog.pg_attribute WHERE attrelid = $1::INT8::OID AND attnum > 0 AND NOT attisdropped
			UNION SELECT base.name, t.typbasetype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype = 'd')
		SELECT DISTINCT base.name::TEXT FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE t.typtype = 'd' AND t.typnotnull`, int64(c.table.OID))
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(found, pgx.RowTo[string])
	for _, n := range names {
		c.checks = append(c.checks, check{name: "NOT NULL of its domain", expr: "VALUE IS NOT NULL", column: n})
	}
	return err
}

func (c *catalogue) readForeignKeys(ctx context.Context, db server.Querier) error {
	type row struct {
		name, schema, table string
		oid                 int64
		from, to            []int16
		deferrable          bool
	}
	parents := ""
	if c.info.Product == server.PostgreSQL {
		parents = " AND conparentid = 0"
	}
	found, err := db.Query(ctx, `SELECT k.conname::TEXT, n.nspname::TEXT, c.relname::TEXT, k.confrelid::INT8, k.conkey, k.confkey, k.condeferrable
		FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE k.conrelid = $1::INT8::OID AND k.contype = 'f'`+parents+` ORDER BY k.conname`, int64(c.table.OID))
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (x row, err error) {
		err = r.Scan(&x.name, &x.schema, &x.table, &x.oid, &x.from, &x.to, &x.deferrable)
		return x, err
	})
	if err != nil {
		return err
	}
	for _, x := range list {
		k := foreignKey{name: x.name, table: pgx.Identifier{x.schema, x.table}, oid: x.oid, deferrable: x.deferrable}
		if k.columns, err = attributes(ctx, db, int64(c.table.OID), x.from); err == nil {
			k.references, err = attributes(ctx, db, x.oid, x.to)
		}
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(c.keys, func(o foreignKey) bool {
			return o.oid == k.oid && slices.Equal(o.columns, k.columns) && slices.Equal(o.references, k.references)
		}) {
			c.keys = append(c.keys, k)
		}
	}
	return nil
}

// readReferring reads the types of the columns that refer to the table's.
func (c *catalogue) readReferring(ctx context.Context, db server.Querier) error {
	found, err := db.Query(ctx, `SELECT DISTINCT a.attname::TEXT, format_type(b.atttypid, b.atttypmod) FROM pg_catalog.pg_constraint k, generate_series(1, 32) AS i,
			pg_catalog.pg_attribute a, pg_catalog.pg_attribute b
		WHERE k.confrelid = $1::INT8::OID AND k.contype = 'f' AND i <= array_length(k.conkey, 1)
			AND a.attrelid = k.confrelid AND a.attnum = k.confkey[i] AND b.attrelid = k.conrelid AND b.attnum = k.conkey[i]`, int64(c.table.OID))
	if err != nil {
		return err
	}
	var column, typ string
	_, err = pgx.ForEachRow(found, []any{&column, &typ}, func() error {
		c.referring[column] = append(c.referring[column], typ)
		return nil
	})
	return err
}

// attributes returns the names of columns by their numbers.
func attributes(ctx context.Context, db server.Querier, table int64, numbers []int16) ([]string, error) {
	found, err := db.Query(ctx, `SELECT attnum::INT8, attname::TEXT FROM pg_catalog.pg_attribute WHERE attrelid = $1::INT8::OID AND attnum > 0`, table)
	if err != nil {
		return nil, err
	}
	names := map[int16]string{}
	var n int64
	var name string
	if _, err := pgx.ForEachRow(found, []any{&n, &name}, func() error { names[int16(n)] = name; return nil }); err != nil {
		return nil, err
	}
	list := make([]string, len(numbers))
	for i, n := range numbers {
		list[i] = names[n]
	}
	return list, nil
}

// readPartitions reads the conditions of the partitions of a table, or of the table that is a
// partition itself.
func (c *catalogue) readPartitions(ctx context.Context, db server.Querier) error {
	if c.info.Product != server.PostgreSQL || c.table.Kind != "p" && !c.table.Partition {
		return nil
	}
	found, err := db.Query(ctx, `WITH RECURSIVE part AS (SELECT $1::INT8::OID AS oid
			UNION ALL SELECT i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.oid)
		SELECT COALESCE(pg_get_partition_constraintdef(c.oid), ''), pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
		FROM part JOIN pg_catalog.pg_class c ON c.oid = part.oid WHERE c.relkind = 'r'`, int64(c.table.OID))
	if err != nil {
		return err
	}
	var text string
	var rest *bool
	open, some := false, false
	_, err = pgx.ForEachRow(found, []any{&text, &rest}, func() error {
		some = true
		if text == "" || rest != nil && *rest && c.table.Kind == "p" {
			open = true
			return nil
		}
		c.ranges = append(c.ranges, text)
		return nil
	})
	if open {
		c.ranges = nil
	}
	if err == nil && !some {
		return &server.TargetError{Name: c.table.Display(), Reason: "has no partition that could take rows"}
	}
	return err
}

func (c *catalogue) readExclusions(ctx context.Context, db server.Querier) error {
	if c.info.Product != server.PostgreSQL {
		return nil
	}
	found, err := db.Query(ctx, `SELECT conname::TEXT, conkey FROM pg_catalog.pg_constraint WHERE conrelid = $1::INT8::OID AND contype = 'x'`, int64(c.table.OID))
	if err != nil {
		return err
	}
	var name string
	var numbers []int16
	keys := map[string][]int16{}
	if _, err = pgx.ForEachRow(found, []any{&name, &numbers}, func() error { keys[name] = slices.Clone(numbers); return nil }); err != nil {
		return err
	}
	for name, numbers := range keys {
		if c.excluded[name], err = attributes(ctx, db, int64(c.table.OID), numbers); err != nil {
			return err
		}
	}
	return nil
}
