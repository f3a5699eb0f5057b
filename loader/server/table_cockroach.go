package server

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/keysize"
)

// cockroachColumns reads the columns from pg_attribute and information_schema. The latter has
// hidden columns and CockroachDB's own type names.
func (t *Table) cockroachColumns(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::INT8, c.crdb_sql_type, c.is_nullable = 'NO',
			COALESCE(c.column_default, ''), COALESCE(c.generation_expression, ''), COALESCE(c.is_identity, 'NO') = 'YES',
			COALESCE(c.identity_generation, ''), c.is_hidden = 'YES',
			(SELECT count(*) FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid),
			COALESCE((SELECT v.version FROM information_schema.tables v WHERE v.table_schema = $2 AND v.table_name = $3), 0)
		FROM pg_catalog.pg_attribute a JOIN information_schema.columns c ON c.column_name = a.attname
		WHERE a.attrelid = $1::INT8::OID AND a.attnum > 0 AND NOT a.attisdropped AND c.table_schema = $2 AND c.table_name = $3
		ORDER BY a.attnum`, int64(t.OID), t.Name[0], t.Name[1])
	if err != nil {
		return err
	}
	t.Columns, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (Column, error) {
		var c Column
		var oid int64
		var generation, identity string
		err := row.Scan(&c.Name, &c.Type, &oid, &c.SQLType, &c.NotNull, &c.Expr, &generation, &c.Identity, &identity, &c.Hidden, &c.Labels, &t.Version)
		c.TypeOID = uint32(oid)
		if c.Generated = generation != ""; c.Generated {
			c.Expr = generation
		}
		c.Always = identity == "ALWAYS"
		c.Default = c.Expr != "" || c.Identity || c.Generated
		return c, err
	})
	return err
}

// cockroachIndexes reads indexes, column families and whatever the sizes of the table's keys
// depend on. It does not require crdb_internal, which 26.1 and later refuse by default: if the
// index ids cannot be read, the sizes are upper bounds.
func (t *Table) cockroachIndexes(ctx context.Context, db Querier, info Info) error {
	var primary string
	ids := map[string]int64{}
	err := Together(ctx, db,
		t.showIndexes,
		func(ctx context.Context, db Querier) error {
			return db.QueryRow(ctx, `SELECT create_statement FROM [SHOW CREATE TABLE `+t.Name.Sanitize()+`]`).Scan(&t.create)
		},
		func(ctx context.Context, db Querier) error {
			// By the catalog: SHOW CREATE TABLE may print no INDEX for the primary key.
			err := db.QueryRow(ctx, `SELECT c.relname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
				WHERE x.indrelid = $1::INT8::OID AND x.indisprimary`, int64(t.OID)).Scan(&primary)
			if err != nil {
				return fmt.Errorf("find the primary key: %w", err)
			}
			return nil
		},
		func(ctx context.Context, db Querier) error {
			t.indexIDs(ctx, db, info, ids)
			return nil
		},
		func(ctx context.Context, db Querier) error {
			t.Keys.TenantID = t.tenant(ctx, db)
			return nil
		},
	)
	if err != nil {
		return err
	}

	// Facts that only the text of SHOW CREATE TABLE holds: kinds, WHERE, families, and the
	// statement that recreates the index.
	t.Keys.Families = t.readCreate(t.create)
	for i := range t.Indexes {
		x := &t.Indexes[i]
		x.ID = ids[x.Name]
		if x.Name == primary {
			x.Primary, x.Unique, x.Storing, x.Create, x.Drop = true, true, nil, "", ""
			t.Primary = x.Columns
		}
	}
	slices.SortStableFunc(t.Indexes, func(a, b TableIndex) int { return rank(b) - rank(a) })
	return nil
}

// showIndexes reads the columns of each index.
func (t *Table) showIndexes(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT index_name, non_unique, column_name, direction, storing, implicit
		FROM [SHOW INDEXES FROM `+t.Name.Sanitize()+`] ORDER BY index_name, seq_in_index`)
	if err != nil {
		return err
	}
	var name, column, direction string
	var repeats, storing, implicit bool
	_, err = pgx.ForEachRow(found, []any{&name, &repeats, &column, &direction, &storing, &implicit}, func() error {
		if n := len(t.Indexes); n == 0 || t.Indexes[n-1].Name != name {
			t.Indexes = append(t.Indexes, TableIndex{Name: name, Unique: !repeats, Method: "btree"})
		}
		t.Indexes[len(t.Indexes)-1].add(column, direction, storing, implicit)
		return nil
	})
	return err
}

// expires matches the options of a table with row-level TTL, in SHOW CREATE TABLE.
var expires = regexp.MustCompile(`(?s)WITH \(.*\bttl\b`)

// readOptions sets the facts of the table and its columns that only SHOW CREATE TABLE has.
func (t *Table) readOptions() {
	t.Expires = expires.MatchString(t.create)
	for i := range t.Columns {
		t.Columns[i].OnUpdate = updated(t.create, t.Columns[i].Name)
	}
}

// updated reports whether SHOW CREATE TABLE gives the column an ON UPDATE expression. Foreign keys
// have ON UPDATE too; they are items of their own.
func updated(create, column string) bool {
	for _, item := range cutCreate(create) {
		if name, rest := cutIdentifier(strings.TrimSpace(item)); name == column && strings.Contains(rest, " ON UPDATE ") {
			return true
		}
	}
	return false
}

// Version returns the number of changes of the table's definition; see Table.Version.
func Version(ctx context.Context, db Querier, t *Table) (n int64, err error) {
	err = db.QueryRow(ctx, `SELECT COALESCE((SELECT version FROM information_schema.tables WHERE table_schema = $1 AND table_name = $2), 0)`, t.Name[0], t.Name[1]).Scan(&n)
	return n, err
}

// showTriggers reads the names of triggers where pg_trigger may not list them: CockroachDB has
// triggers from 24.3 on, and 26.1 lists them there. It cannot tell those fired by INSERT from
// others.
func (t *Table) showTriggers(ctx context.Context, db Querier) error {
	found, err := db.Query(ctx, `SELECT trigger_name FROM [SHOW TRIGGERS FROM `+t.Name.Sanitize()+`] WHERE enabled ORDER BY 1`)
	if err != nil {
		return err
	}
	t.Triggers, err = pgx.CollectRows(found, pgx.RowTo[string])
	t.OnInsert = t.Triggers
	return err
}

func rank(x TableIndex) int {
	if x.Primary {
		return 1
	}
	return 0
}

// add adds one line of SHOW INDEXES. Implicit columns before the first explicit one belong to
// the index; later ones come from the primary key.
func (x *TableIndex) add(column, direction string, storing, implicit bool) {
	switch {
	case storing && !implicit: // from 26.1 on, primary key columns are listed as both
		x.Storing = append(x.Storing, column)
	case implicit && (storing || len(x.Columns) > x.Implicit):
	default:
		if implicit {
			x.Implicit++
		}
		expr := ""
		if strings.HasPrefix(column, "crdb_internal_idx_expr") {
			column, expr = "", column
		}
		x.Columns, x.Exprs, x.Desc = append(x.Columns, column), append(x.Exprs, expr), append(x.Desc, direction == "DESC")
	}
}

// readCreate sets the fields of the indexes that need the text of SHOW CREATE TABLE. It
// returns the column families, numbered from 0: the text does not show their real ids, which
// have the same encoded size up to 109.
func (t *Table) readCreate(create string) []keysize.Family {
	var families []keysize.Family
	table := t.Name.Sanitize()
	for _, item := range createItems(create) {
		if item.kind == "family" {
			families = append(families, keysize.Family{ID: len(families), Name: item.name, Columns: identifiers(item.rest)})
			continue
		}
		i := slices.IndexFunc(t.Indexes, func(x TableIndex) bool { return x.Name == item.name })
		if i < 0 {
			continue
		}
		x := &t.Indexes[i]
		name := pgx.Identifier{item.name}.Sanitize()
		x.Condition = cutWhere(item.rest)
		x.Where = x.Condition != ""
		if strings.Contains(item.prefix, "INVERTED") {
			x.Inverted, x.Method = true, "inverted"
		}
		if strings.Contains(item.prefix, "VECTOR") {
			x.Method = "vector"
		}
		x.Create = "CREATE " + strings.TrimSpace(item.prefix+" INDEX") + " " + name + " ON " + table + " " + item.rest
		x.Drop = "DROP INDEX " + table + "@" + name
		if x.Unique {
			x.Drop += " CASCADE" // required to drop the index of a UNIQUE constraint
		}
	}
	return families
}

// manyRows is the number of rows above which a table may have so many ranges that listing them
// is slow.
const manyRows = 5_000_000

// indexIDs reads the index ids, by name, if the server permits it. From 26.1 on it lists the table's
// ranges, since crdb_internal is refused by default.
func (t *Table) indexIDs(ctx context.Context, db Querier, info Info, ids map[string]int64) {
	query, args := `SELECT index_name, index_id FROM crdb_internal.table_indexes WHERE descriptor_id = $1`, []any{int64(t.OID)}
	if info.AtLeast(26, 1, 0) {
		if t.EstimatedRows > manyRows {
			return // the query would list every range
		}
		query, args = `SELECT DISTINCT index_name, index_id FROM [SHOW RANGES FROM TABLE `+t.Name.Sanitize()+` WITH INDEXES]`, nil
	}
	found, err := db.Query(ctx, query, args...)
	if err == nil {
		var name string
		var id int64
		_, err = pgx.ForEachRow(found, []any{&name, &id}, func() error {
			ids[name] = id
			return nil
		})
	}
	if err != nil {
		t.Notes = append(t.Notes, "the numbers of the indexes cannot be read, so the sizes of keys are upper bounds: "+Reason(err))
	}
}

// estimatedRows returns the number of rows by the newest statistics; -1 if there are none.
func estimatedRows(ctx context.Context, db Querier, name pgx.Identifier) int64 {
	var n int64
	if db.QueryRow(ctx, `SELECT row_count FROM [SHOW STATISTICS FOR TABLE `+name.Sanitize()+`] ORDER BY created DESC LIMIT 1`).Scan(&n) != nil {
		return -1
	}
	return n
}

// tenant returns the tenant id, which determines the size of the key prefix. Only the system
// tenant has the table system.tenants, and its keys have no prefix. The id of any other tenant
// cannot be read, so the longest possible one is assumed.
func (t *Table) tenant(ctx context.Context, db Querier) uint64 {
	var oid int64
	if err := db.QueryRow(ctx, `SELECT 'system.public.tenants'::REGCLASS::OID::INT8`).Scan(&oid); err == nil {
		return 1
	}
	return math.MaxUint32
}

// shardColumn matches the hidden column of a hash-sharded index and its number of buckets n.
// The column's values are 0 to n-1.
var shardColumn = regexp.MustCompile(`^crdb_internal_.*shard_(\d+)$`)

// keys completes t.Keys from columns and indexes.
func (t *Table) keys() {
	t.Keys.TableID, t.Keys.Columns = int64(t.OID), len(t.Columns)
	families, interleaved := t.Keys.Families, strings.Contains(t.create, "INTERLEAVE IN PARENT")
	for i := range families {
		families[i].NotNull = slices.ContainsFunc(families[i].Columns, func(name string) bool {
			c := t.Column(name)
			return c != nil && c.NotNull && !slices.Contains(t.Primary, name)
		})
	}
	for _, x := range t.Indexes {
		index := keysize.Index{ID: x.ID, Name: x.Name, Primary: x.Primary, Unique: x.Unique, Inverted: x.Inverted, Partial: x.Where, Storing: x.Storing}
		for i, name := range x.Columns {
			k := t.keyColumn(name, x.Exprs[i])
			k.Desc = x.Desc[i]
			index.Columns = append(index.Columns, k)
		}
		if x.Inverted {
			index.Trigram = index.Columns[len(index.Columns)-1].Kind == keysize.KeyString
		}
		if interleaved && x.Primary {
			index.Ancestors = maxAncestors
		}
		t.Keys.Indexes = append(t.Keys.Indexes, index)
	}
}

// maxAncestors is assumed for an interleaved table: SHOW CREATE TABLE names only the nearest
// ancestor. Interleaving ended with 21.2.
const maxAncestors = 4

func (t *Table) keyColumn(name, expr string) keysize.KeyColumn {
	c := t.Column(name)
	if c == nil || expr != "" {
		return keysize.KeyColumn{Name: expr, Nullable: true, Computed: true}
	}
	k := keysize.ColumnOf(name, c.SQLType)
	if c.Labels > 0 {
		k.Kind, k.Width = keysize.KeyEnum, int64(c.Labels)
	}
	k.Nullable, k.Computed = !c.NotNull, c.Generated
	if m := shardColumn.FindStringSubmatch(name); m != nil && c.Generated {
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil && n > 0 {
			k.Ints = &keysize.IntRange{First: 0, Last: n - 1}
		}
	}
	return k
}
